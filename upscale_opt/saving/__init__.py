"""Writes exports to files that can be used without this package: torch.export, TorchScript and ONNX."""
