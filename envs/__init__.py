"""FARL's environments. Importing this package registers them with Gymnasium."""
