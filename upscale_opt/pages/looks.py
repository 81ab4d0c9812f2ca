"""The looks of all pages: colours for light and dark, sizes for screens, phones and paper, and a script for tables.

Colours of ways of reading: what costs nothing is quiet, what is counted stands out. They differ in lightness too, so
that readers who do not tell red from green see them.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #18232e; --muted: #5c6a77; --line: #dbe2e8; --panel: #f5f7f9;
  --accent: #0a66c2; --before: #8b98a5; --simple: #b3bfca; --good: #1f7a45; --bad: #b3261e; --note: #fff6dd;
  --view: #bccad6; --over-read: #e3960b; --pieces: #7d5cc4; --copy: #cb2a4b; --kept: #f3d9a4; --empty: #eef2f5; }
@media (prefers-color-scheme: dark) { :root { --page: #11161c; --ink: #e6ecf2; --muted: #98a6b3; --line: #2b3641;
  --panel: #19212a; --accent: #58a6ff; --before: #7b8895; --simple: #4b5a68; --good: #5cc98a; --bad: #ff8a80;
  --note: #322b16; --view: #4a5b6b; --over-read: #f2b134; --pieces: #a98ce8; --copy: #ff6179; --kept: #6b5527;
  --empty: #1d2630; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink);
  background: var(--page); max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; } h4 { font-size: .9rem; margin: 0; }
p { margin: .5rem 0; max-width: 62rem; } .answer { font-size: 1.1rem; margin: 0 0 1rem; }
.muted, .how { color: var(--muted); } .how { font-size: .85rem; margin: 0; }
.note { background: var(--note); border-radius: .4rem; padding: .5rem .8rem; font-size: .9rem; max-width: none; }
.words { color: var(--muted); font-size: .85rem; max-width: none; margin: .7rem 0; }
.words span { margin-right: 1.1rem; } .words b { font-weight: 600; color: var(--ink); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem; margin: 0 0 1rem; }
.figure { background: var(--panel); border-radius: .5rem; padding: .7rem 1rem; display: flex; flex-direction: column; }
.figure b { font-size: 1.9rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.figure span { font-size: .9rem; color: var(--muted); }
.figure.good b { color: var(--good); } .figure.bad b { color: var(--bad); }
.top { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(27rem, 100%), 1fr)); gap: .8rem 1.5rem; }
.top > * { min-width: 0; } figure { margin: 0; } figcaption { margin: 0 0 .5rem; }
.bars { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem; }
.bars .row { display: grid; grid-template-columns: minmax(6rem, 9rem) 1fr minmax(5rem, auto); gap: .6rem;
  align-items: center; padding: .16rem 0; font-size: .92rem; }
.bars .name { overflow-wrap: anywhere; line-height: 1.2; } .track { position: relative; height: 1.05rem; }
.bars .value { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { position: absolute; inset: 0 auto 0 0; min-width: 2px; border-radius: 0 .2rem .2rem 0;
  background: var(--simple); }
.bar.before { background: var(--before); } .bar.chosen { background: var(--accent); }
.bar.limit { background: none; border: 1.5px dashed var(--muted); border-left-style: solid; }
.noise { position: absolute; top: 50%; height: 0; border-top: 2px solid var(--ink); }
.noise::before, .noise::after { content: ""; position: absolute; top: -5px; height: 8px;
  border-left: 2px solid var(--ink); }
.noise::before { left: 0; } .noise::after { right: 0; }
.mark { position: absolute; top: 50%; width: .62rem; height: .62rem; margin: -.31rem 0 0 -.31rem; rotate: 45deg;
  background: var(--page); border: 2px solid var(--ink); }
.wide { overflow-x: auto; margin: .6rem 0; } table { border-collapse: collapse; font-size: .88rem; }
caption { text-align: left; color: var(--muted); padding: 0 0 .3rem; }
th, td { padding: .22rem .7rem .22rem 0; text-align: left; vertical-align: top; white-space: nowrap; }
th { border-bottom: 2px solid var(--line); vertical-align: bottom; } th.group { border-bottom-width: 1px; }
td { border-bottom: 1px solid var(--line); } tfoot td { font-weight: 600; border-top: 2px solid var(--line); }
.wide tr > :first-child { position: sticky; left: 0; background: var(--page); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: minmax(8rem, 14rem) 1fr; gap: .2rem 1rem; margin: .5rem 0;
  font-size: .92rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto; white-space: pre-wrap; }
code { font: .88rem ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.way { display: inline-block; border-radius: .25rem; padding: 0 .4rem; background: var(--empty); }
.way.over-read { background: var(--over-read); color: #201500; } .way.pieces { background: var(--pieces); color: #fff; }
.way.copy { background: var(--copy); color: #fff; } .legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem;
  margin: .3rem 0 .8rem; font-size: .85rem; color: var(--muted); }
.legend i { display: inline-block; width: 1.1rem; height: .8rem; border-radius: .15rem; margin-right: .35rem; }
.segment { margin: 1.2rem 0 1.8rem; } .orders { display: grid; gap: .8rem 1.2rem; margin-top: .5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); }
.order { background: var(--panel); border-radius: .5rem; padding: .6rem .8rem; min-width: 0; }
.order .total { font-size: .85rem; color: var(--muted); margin: 0 0 .4rem; }
.strip { display: grid; grid-template-columns: 36% 1fr 4.9rem; gap: .5rem;
  align-items: center; font-size: .78rem; line-height: 1.15; padding: .1rem 0; }
.strip .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; direction: rtl; text-align: left; }
.strip .counted { text-align: right; color: var(--muted); font-variant-numeric: tabular-nums; }
.strip svg { display: block; width: 100%; height: .95rem; background: var(--empty); }
svg .view { fill: var(--view); } svg .over-read { fill: var(--over-read); } svg .kept { fill: var(--kept); }
svg .pieces { fill: var(--pieces); } svg .copy { fill: var(--copy); } svg .unread { fill: var(--panel); }
svg .edge { stroke: var(--ink); stroke-width: 1; vector-effect: non-scaling-stroke; }
.filter { font: inherit; padding: .2rem .5rem; margin: .3rem 0; border: 1px solid var(--line); border-radius: .3rem;
  background: var(--page); color: var(--ink); } .sortable th { cursor: pointer; }
@media (max-width: 40rem) { body { padding: 1rem .8rem 3rem; } h1 { font-size: 1.35rem; }
  .figures { grid-template-columns: repeat(2, 1fr); gap: .5rem; } .figure { padding: .5rem .7rem; }
  .figure b { font-size: 1.35rem; } .figure span { font-size: .8rem; }
  .bars .row { grid-template-columns: 5.6rem 1fr auto; gap: .5rem; font-size: .85rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .4rem; } }
@media print { :root { color-scheme: light; --page: #fff; --ink: #000; --muted: #444; --line: #ccc; --panel: #f6f6f6; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 10pt; max-width: none; padding: 0; }
  .wide { overflow: visible; } th, td { white-space: normal; } .filter { display: none; }
  section > h2, h3 { break-after: avoid; } figure, .order, tr { break-inside: avoid; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0], rows = [...body.rows];
  const value = (row, i) => row.cells[i].textContent;
  [...table.tHead.rows].at(-1).querySelectorAll('th').forEach((head, i) => head.addEventListener('click', () => {
    const down = head.ariaSort === 'ascending', numbers = rows.some(row => 'value' in row.cells[i].dataset);
    const number = row => Number(row.cells[i].dataset.value ?? Infinity);
    for (const other of table.querySelectorAll('th')) other.ariaSort = null;
    head.ariaSort = down ? 'descending' : 'ascending';
    rows.sort((a, b) => (down ? -1 : 1) * (numbers ? number(a) - number(b) || 0
      : value(a, i).localeCompare(value(b, i), undefined, {numeric: true})));
    body.append(...rows);
  }));
  const filter = document.createElement('input');
  filter.className = 'filter'; filter.placeholder = 'filter rows'; filter.ariaLabel = 'filter rows';
  filter.addEventListener('input', () => {
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(filter.value.toLowerCase());
  });
  table.parentNode.before(filter);
}
"""
