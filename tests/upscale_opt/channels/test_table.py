"""Tests that ties, cuts and pins resolve into the right blocks."""

import numpy as np

from upscale_opt.channels.table import ChannelTable, Layout, TensorLayout


def sequence(resolution, channels):
    """The blocks a layout consists of; None if it is no concatenation of whole blocks."""
    layout = resolution.layout(Layout(1, channels))
    return None if layout is None else layout.blocks


def test_tied_producers_are_one_block_named_after_the_first():
    table = ChannelTable()
    first, second = table.produce(4, "a"), table.produce(4, "b")
    table.tie(first, second)
    resolution = table.resolve()
    assert [(block.name, block.size, block.pinned) for block in resolution.blocks] == [("a", 4, False)]
    assert sequence(resolution, first) == sequence(resolution, second) == (0,)


def test_add_of_a_concat_cuts_the_single_producer():
    table = ChannelTable()
    a, b, single = table.produce(3, "a"), table.produce(5, "b"), table.produce(8, "single")
    joined = np.concatenate([a, b])
    table.tie(joined, single)
    resolution = table.resolve()
    assert [(block.name, block.size) for block in resolution.blocks] == [("a", 3), ("b", 5)]
    assert sequence(resolution, single) == sequence(resolution, joined) == (0, 1)


def test_slices_cut_and_whole_tensors_stay_concatenations_of_blocks():
    table = ChannelTable()
    a = table.produce(10, "a")
    table.cut(a, 4)
    table.cut(a, 0)
    table.cut(a, 10)
    resolution = table.resolve()
    assert [block.name for block in resolution.blocks] == ["a[0:4]", "a[4:10]"]
    assert sequence(resolution, a) == (0, 1)
    assert sequence(resolution, a[4:]) == (1,)
    assert sequence(resolution, np.concatenate([a, a])) == (0, 1, 0, 1)


def test_a_cut_carries_over_to_everything_tied():
    table = ChannelTable()
    a, b = table.produce(6, "a"), table.produce(6, "b")
    table.tie(a, b)
    table.cut(b, 2)
    assert [block.size for block in table.resolve().blocks] == [2, 4]


def test_a_pin_holds_the_whole_block_and_what_is_tied_to_it():
    table = ChannelTable()
    a, b, free = table.produce(4, "a"), table.produce(4, "b"), table.produce(4, "free")
    table.tie(a, b)
    table.pin(b[:1], "because", "node")
    assert [block.pinned for block in table.resolve().blocks] == [True, False]
    assert len(free) == 4


def test_tied_halves_of_one_producer_are_one_block_that_occurs_twice():
    """Channel i and channel i + 3 move together: each half of the producer has the same order."""
    table = ChannelTable()
    a = table.produce(6, "a")
    table.cut(a, 3)
    table.tie(a[:3], a[3:])
    resolution = table.resolve()
    assert [(block.name, block.size, block.pinned) for block in resolution.blocks] == [("a[0:3]", 3, False)]
    assert sequence(resolution, a) == (0, 0)


def test_tied_neighbours_of_one_producer_are_entries_of_one_channel():
    table = ChannelTable()
    a = table.produce(8, "a")
    table.tie(a[::2], a[1::2])
    resolution = table.resolve()
    assert [block.size for block in resolution.blocks] == [4]
    assert resolution.layout(Layout(1, a)) == TensorLayout(1, (0,), 2)
    assert resolution.layout(Layout(1, a[::2])) == TensorLayout(1, (0,), 1)


def test_overlapping_ties_of_one_producer_are_whole_blocks():
    """Channel i is tied to channel i + 3 of 8: three classes, of which one occurs only twice."""
    table = ChannelTable()
    a = table.produce(8, "a")
    table.cut(a, 5)
    table.cut(a, 3)
    table.tie(a[:5], a[3:])
    resolution = table.resolve()
    assert [block.size for block in resolution.blocks] == [2, 1]
    assert sequence(resolution, a) == (0, 1, 0, 1, 0)
    assert sequence(resolution, a[:5]) == sequence(resolution, a[3:]) == (0, 1, 0)


def test_contradictory_ties_of_shuffled_channels_never_merge_what_moves_differently():
    table = ChannelTable()
    a, b = table.produce(4, "a"), table.produce(4, "b")
    table.tie(a, b[::-1])
    assert [block.size for block in table.resolve().blocks] == [1, 1, 1, 1]


def test_needed_channels_are_not_removable():
    table = ChannelTable()
    a = table.produce(4, "a")
    table.need(a)
    assert not table.resolve().blocks[0].removable


def test_part_of_a_block_is_no_concatenation():
    table = ChannelTable()
    a = table.produce(4, "a")
    assert sequence(table.resolve(), a[:2]) is None


def test_random_ties_give_blocks_that_partition_every_producer():
    """Whatever is tied, every producer is a concatenation of whole blocks, and equal to a naive refinement."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        table = ChannelTable()
        tensors = [table.produce(int(rng.integers(1, 7)), f"p{i}") for i in range(4)]
        tensors.append(np.concatenate([tensors[0], tensors[1]]))
        for _ in range(3):
            i, j = rng.integers(0, len(tensors), 2)
            length = min(len(tensors[i]), len(tensors[j]))
            if i != j:
                for t in (tensors[i], tensors[j]):
                    table.cut(t, length)
                table.tie(tensors[i][:length], tensors[j][:length])
        resolution = table.resolve()
        for tensor in tensors:
            layout = resolution.layout(Layout(1, tensor))
            assert sum(resolution.blocks[b].size for b in layout.blocks) * layout.size == len(tensor)
