"""The console command ``lakehouse``."""
