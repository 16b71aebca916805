"""Shapes on the wire: errors, events, requests, reports. Pure: no event loop, no tensors, no HTTP."""
