"""Deploying and operating, on the real tools: what `make test-deployment` runs, apart from the default suite."""
