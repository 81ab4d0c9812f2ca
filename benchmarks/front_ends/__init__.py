"""Networks that torch.fx dislikes, through both front ends: `written`, `questions`, `containers`, `libraries`."""
