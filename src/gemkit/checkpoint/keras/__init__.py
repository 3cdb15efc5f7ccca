"""The Keras preset: config.json and HDF5 weights; its `.lora.h5` adapters."""
