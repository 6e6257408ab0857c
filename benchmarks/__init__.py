"""What is claimed of Tagmask's accuracy and speed: each module is a command that anyone can run."""
