"""The BAGEL model: decoder, image encoder and autoencoder, and the stages whose control flow the components are."""
