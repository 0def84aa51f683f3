"""What crosses the wall between supervisor and trial: folder, records, messages."""
