"""What is done for generations by those who are on call, and by the schedule on their behalf."""
