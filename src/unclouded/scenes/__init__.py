"""Room 1b: Sentinel-2 and Sentinel-1 products of a user -> Scene, which reads Samples. Start at scene.py."""
