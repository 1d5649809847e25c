"""The engine of the latent backends: a decoder with named adapters, memory encoders, readers, checkpoint layouts."""
