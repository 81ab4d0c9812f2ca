"""ONNX Runtime on the CPU: networks that run in it, operators as they run inside a network, and what it makes of them.

- `requirements` says what it needs. `writing` writes a module as an ONNX model in memory. `sessions` runs such a model
  without copies.
- `remote_calls` runs models in another process, where all sessions share their threads, to time them.
- `inside` runs one operator in the layout in which its neighbours in a network leave its input.
- `optimised` reads the graph that ONNX Runtime makes. `lint` counts what it reorders, and says which consumers are the
  reason.

Nothing here imports onnx or onnxruntime before it is used.
"""
