"""What a run writes to its folder and resumes from."""
