"""What is seen of a flow while it runs and after: progress, tables and pictures, in Prefect and the terminal."""
