"""How many pieces of work are done: in this process, which may share them with other processes through a folder."""
