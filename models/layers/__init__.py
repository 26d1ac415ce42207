"""Layers of the network: recurrent cells, blocks, head."""
