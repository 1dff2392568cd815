"""Neural architecture search: the multi-scale space of MS-NAS, its super-net, and how a network is decoded from it."""
