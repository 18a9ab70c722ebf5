"""Bytes: the bucket, downloads from foreign hosts, and reading clips, sounds and pictures to their last packet."""
