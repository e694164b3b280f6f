"""Stage snapshot: keeps a short record of each finished table, lists these runs, and says what differs between two."""
