"""Exports as files for those who do not have this package: torch.export, TorchScript and ONNX."""
