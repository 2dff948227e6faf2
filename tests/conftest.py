"""Settings of all tests."""

import torch

torch.set_num_threads(1)  # tiny models spend more time on handing out work than on doing it
