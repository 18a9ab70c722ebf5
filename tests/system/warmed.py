"""What the fork server of `tests.system.forked` does once instead of each of its children; imported by nobody else."""

import temporalio.worker._worker

temporalio.worker._worker.load_default_build_id()  # reads every module that is loaded, and remembers the answer
