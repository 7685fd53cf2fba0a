"""One CPU thread a process: the networks of the tests are too small for more, and others may be at work beside them."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
