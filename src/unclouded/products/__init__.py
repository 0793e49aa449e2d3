"""Room 5: finished blocks of pixels -> georeferenced files, through a journal, published by one rename."""
