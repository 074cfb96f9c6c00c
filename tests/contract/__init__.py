"""What holds whatever a store is kept in: one suite over memory and files."""
