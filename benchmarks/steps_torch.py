"""The training steps in PyTorch, eager and compiled, and by pythae."""

import math
import os
import shutil

import numpy as np
import torch
from torch import nn
from torch.nn import functional

RAW_SCALE_OF_ONE = math.log(math.e - 1)

# === Networks, in pairs: encoder and decoder, or generator and discriminator ===


def mlp_vae():
    """784-200-200-50 and back."""
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 200),
        nn.Tanh(),
        nn.Linear(200, 200),
        nn.Tanh(),
        nn.Linear(200, 100),
    )
    decoder = [
        nn.Linear(50, 200),
        nn.Tanh(),
        nn.Linear(200, 200),
        nn.Tanh(),
        nn.Linear(200, 784),
        nn.Unflatten(1, (1, 28, 28)),
    ]
    return encoder, nn.Sequential(*decoder)


def conv_vae():
    """Two convolutions of stride 2 and back, 10 latents."""
    halvings = [nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()]
    grid = [nn.Linear(10, 7 * 7 * 64), nn.ReLU(), nn.Unflatten(1, (64, 7, 7))]
    doublings = [
        nn.ConvTranspose2d(64, 32, 3, 2, 1, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 32, 3, 2, 1, 1),
        nn.ReLU(),
    ]
    encoder = nn.Sequential(*halvings, nn.Flatten(), nn.Linear(7 * 7 * 64, 20))
    return encoder, nn.Sequential(*grid, *doublings, nn.Conv2d(32, 1, 3, padding=1))


def dcgan():
    """A generator with batch normalization and a discriminator without, 64 latents."""
    grid = [nn.Linear(64, 7 * 7 * 64, bias=False), nn.Unflatten(1, (64, 7, 7))]
    first = [
        nn.BatchNorm2d(64, eps=1e-3),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False),
    ]
    last = [
        nn.BatchNorm2d(32, eps=1e-3),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 4, 2, 1),
        nn.Sigmoid(),
    ]
    halvings = [
        nn.Conv2d(1, 64, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1),
        nn.LeakyReLU(0.2),
    ]
    return nn.Sequential(*grid, *first, *last), nn.Sequential(
        *halvings, nn.Flatten(), nn.Linear(7 * 7 * 128, 1)
    )


def as_in_keras(module):
    """Begin with the weights that Keras begins with: Glorot's uniform distribution, biases of 0."""
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


# === Steps: a function from a batch to the loss, after which the weights have moved ===


def vae_step(encoder, decoder, compiled):
    """−E_q[log p(x | z)] + KL(q(z | x) ‖ N(0, I)), minimized by Adam."""

    @compiled
    def loss(x):
        mean, raw_scale = encoder(x).chunk(2, dim=1)
        scale = 1e-4 + (1 - 1e-4) * functional.softplus(raw_scale + RAW_SCALE_OF_ONE)
        z = mean + scale * torch.randn_like(mean)
        cross_entropy = functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        return (cross_entropy + (0.5 * (mean**2 + scale**2 - 1) - scale.log()).sum()) / len(x)

    optimizer = _adam([*encoder.parameters(), *decoder.parameters()])
    return lambda x: _minimize(optimizer, loss(x))


def gan_step(generator, discriminator, compiled):
    """The discriminator's move, then the generator's, each by its own Adam; the loss is the sum of both."""
    move_generator, move_discriminator = (
        _adam(generator.parameters(), 1e-3, 0.5),
        _adam(discriminator.parameters(), 4e-4, 0.5),
    )

    @compiled
    def generate(latents):
        return generator(latents)

    @compiled
    def discriminator_loss(x, fake):
        return (
            functional.softplus(-discriminator(x)) + functional.softplus(discriminator(fake))
        ).mean()

    @compiled
    def generator_loss(latents):
        return functional.softplus(-discriminator(generator(latents))).mean()

    def step(x):
        with torch.no_grad():
            fake = generate(torch.randn(len(x), 64))
        of_discriminator = _minimize(move_discriminator, discriminator_loss(x, fake))
        discriminator.requires_grad_(False)  # the generator's move needs no gradient of its kernels
        of_generator = _minimize(move_generator, generator_loss(torch.randn(len(x), 64)))
        discriminator.requires_grad_(True)
        return of_discriminator + of_generator

    return step


def _adam(parameters, learning_rate=1e-3, beta_1=0.9):
    return torch.optim.Adam(parameters, learning_rate, (beta_1, 0.999), eps=1e-7, fused=True)


def _minimize(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


MODELS = {
    "mlp_vae": (mlp_vae, vae_step),
    "conv_vae": (conv_vae, vae_step),
    "dcgan": (dcgan, gan_step),
}

# === What competes ===


def loop(model, batch_size, digits, compiled=False):
    """The training by a loop over batches that are cut out of the digits in memory."""
    if compiled and not shutil.which(os.environ.get("CXX", "g++")):
        raise ImportError("torch.compile needs g++")
    order_of_axes = (
        torch.contiguous_format if compiled else torch.channels_last
    )  # what is quicker for each
    pair, make_step = (
        [network.to(memory_format=order_of_axes) for network in _pair(model)],
        MODELS[model][1],
    )
    step = make_step(*pair, torch.compile if compiled else lambda function: function)
    x, parameters = _images(digits).contiguous(memory_format=order_of_axes), _size(pair)

    def train(steps):
        losses, order = [], torch.empty(0, dtype=torch.int64)
        for _ in range(steps):
            if len(order) < batch_size:
                order = torch.randperm(len(x))
            losses.append(step(x[order[:batch_size]]))
            order = order[batch_size:]
        return {"loss": float(torch.stack(losses).mean()), "parameters": parameters}

    return train


def pythae(model, batch_size, digits):
    """The training by pythae's trainer, whose VAE has a log-variance and probabilities in the place of a softplus and logits."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import CallbackHandler

    networks = _pair(model)

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.network = networks[0]

        def forward(self, x):
            mean, log_variance = self.network(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.network = networks[1]

        def forward(self, z):
            return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))

    x, latents = _images(digits), {"mlp_vae": 50, "conv_vae": 10}[model]
    vae = VAE(
        VAEConfig(input_dim=tuple(x.shape[1:]), latent_dim=latents, reconstruction_loss="bce"),
        Encoder(),
        Decoder(),
    )
    config = {
        "per_device_train_batch_size": batch_size,
        "learning_rate": 1e-3,
        "output_dir": os.path.dirname(digits),
        "no_cuda": True,
    }
    trainer = BaseTrainer(
        vae, BaseDataset(x, torch.zeros(len(x))), training_config=BaseTrainerConfig(**config)
    )
    trainer.prepare_training()
    trainer.callback_handler = CallbackHandler([], vae)  # without its progress bar

    def train(steps):
        examples = x[torch.arange(steps * batch_size) % len(x)]
        trainer.train_loader = trainer.get_train_dataloader(
            BaseDataset(examples, torch.zeros(len(examples)))
        )
        return {"loss": trainer.train_step(1), "parameters": _size(networks)}

    return train


def _pair(model):
    torch.manual_seed(0)
    return [network.apply(as_in_keras) for network in MODELS[model][0]()]


def _images(digits):
    return torch.from_numpy(np.load(digits)).permute(0, 3, 1, 2).contiguous()


def _size(networks):
    return sum(parameter.numel() for network in networks for parameter in network.parameters())
