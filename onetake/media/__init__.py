"""Media: the bucket, downloads from foreign hosts, and the readers of clips, sounds and pictures."""
