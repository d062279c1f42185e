"""Training with PyTorch, eager and compiled, and with pythae."""

import math
import os
import shutil

import numpy as np
import torch
from torch import nn
from torch.nn import functional

RAW_SCALE_OF_ONE = math.log(math.e - 1)  # softplus of it is 1
TABLE_NUMBERS = 8
TABLE_CATEGORIES = (8,) * 6

# === Networks: encoders and decoders, or generator and discriminator ===


def mlp_vae():
    """Return an encoder of 784-200-200-50 units and a decoder of 50-200-200-784."""
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
    """Return networks of two convolutions with stride 2 each, for 10 latents."""
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
    """Return a generator with batch normalization, and a discriminator without, for 64 latents."""
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
    generator = nn.Sequential(*grid, *first, *last)
    return generator, nn.Sequential(*halvings, nn.Flatten(), nn.Linear(7 * 7 * 128, 1))


class Residual(nn.Module):
    """A pre-activation residual block, which halves or doubles the height and width."""

    def __init__(self, inputs, channels, resize):
        super().__init__()
        self.resize = resize
        self.projection = nn.Identity()
        if inputs != channels:
            self.projection = nn.Conv2d(inputs, channels, 1, bias=False)
        self.first = nn.GroupNorm(inputs // 8, inputs, eps=1e-3)
        self.convolution = nn.Conv2d(inputs, channels, 3, 2 if resize == "halve" else 1, 1)
        self.second = nn.GroupNorm(channels // 8, channels, eps=1e-3)
        self.last = nn.Conv2d(channels, channels, 3, 1, 1)
        self.last.starts_at_zero = True

    def forward(self, x):
        """Return the sum of the two paths."""
        added = functional.avg_pool2d(x, 2) if self.resize == "halve" else x
        added = self.projection(added)
        x = self.convolution(functional.relu(self.first(x)))
        x = functional.relu(self.second(x))
        if self.resize == "double":
            added = functional.interpolate(added, scale_factor=2)
            x = functional.interpolate(x, scale_factor=2)
        return added + self.last(x)


def residual_vae():
    """Return the residual networks of keras_gen, for 10 latents."""
    halvings = [nn.Conv2d(1, 32, 3, padding=1), Residual(32, 32, "halve")]
    halvings += [Residual(32, 64, "halve"), nn.GroupNorm(8, 64, eps=1e-3), nn.ReLU()]
    encoder = nn.Sequential(*halvings, nn.Flatten(), nn.Linear(7 * 7 * 64, 20))
    grid = [nn.Linear(10, 7 * 7 * 64), nn.Unflatten(1, (64, 7, 7))]
    doublings = [Residual(64, 32, "double"), Residual(32, 32, "double")]
    doublings += [nn.GroupNorm(4, 32, eps=1e-3), nn.ReLU()]
    return encoder, nn.Sequential(*grid, *doublings, nn.Conv2d(32, 1, 3, padding=1))


def hierarchical_vae():
    """Return two encoders and two decoders for layers of 100 and 50 latents."""

    def mlp(inputs, width, outputs):
        hidden = [nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, outputs))

    decoder = nn.Sequential(mlp(100, 200, 784), nn.Unflatten(1, (1, 28, 28)))
    return mlp(784, 200, 200), mlp(100, 100, 100), decoder, mlp(50, 100, 200)


class Codebook(nn.Module):
    """The codebook of a VQ-VAE, 128 vectors of 16 elements."""

    def __init__(self):
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(128, 16).uniform_(-1 / 128, 1 / 128))


def vq_vae():
    """Return networks of two convolutions with stride 2 each, and a codebook."""
    halvings = [nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()]
    doublings = [
        nn.ConvTranspose2d(16, 64, 3, 2, 1, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 3, 2, 1, 1),
        nn.ReLU(),
    ]
    encoder = nn.Sequential(*halvings, nn.Conv2d(64, 16, 1))
    return encoder, nn.Sequential(*doublings, nn.Conv2d(32, 1, 3, padding=1)), Codebook()


def table_vae():
    """Return an encoder of features-128-128-20 units and a decoder of 10-128-128-parameters."""

    def mlp(inputs, outputs):
        hidden = [nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
        return nn.Sequential(*hidden, nn.Linear(128, outputs))

    outputs = TABLE_NUMBERS + sum(TABLE_CATEGORIES)
    return mlp(outputs + TABLE_NUMBERS + len(TABLE_CATEGORIES), 20), mlp(10, outputs)


def initialize_as_keras(module):
    """Initialize weights as Keras does: Glorot's uniform distribution, and biases of 0."""
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.xavier_uniform_(module.weight)
        if getattr(module, "starts_at_zero", False):
            nn.init.zeros_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


# === Training steps: functions of a batch that update the weights and return the loss ===


def vae_step(encoder, decoder, compiled):
    """Return a step that minimizes −E_q[log p(x | z)] + KL(q(z | x) ‖ N(0, I)) with Adam."""

    @compiled
    def loss(x):
        mean, raw_scale = encoder(x).chunk(2, dim=1)
        scale = 1e-4 + (1 - 1e-4) * functional.softplus(raw_scale + RAW_SCALE_OF_ONE)
        z = mean + scale * torch.randn_like(mean)
        cross_entropy = functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        return (cross_entropy + (0.5 * (mean**2 + scale**2 - 1) - scale.log()).sum()) / len(x)

    optimizer = _adam([*encoder.parameters(), *decoder.parameters()])
    return lambda x: _minimize(optimizer, loss(x))


def hierarchical_step(encoder, top_encoder, decoder, top_decoder, compiled):
    """Return a step that maximizes the ELBO of a VAE with two layers of latents with Adam."""

    def normal(parameters):
        mean, raw_scale = parameters.chunk(2, dim=1)
        return mean, 1e-4 + (1 - 1e-4) * functional.softplus(raw_scale + RAW_SCALE_OF_ONE)

    @compiled
    def loss(x):
        mean, scale = normal(encoder(x))
        latents = mean + scale * torch.randn_like(mean)
        top_mean, top_scale = normal(top_encoder(latents))
        top = top_mean + top_scale * torch.randn_like(top_mean)
        prior_mean, prior_scale = normal(top_decoder(top))
        cross_entropy = functional.binary_cross_entropy_with_logits(
            decoder(latents), x, reduction="sum"
        )
        ratio = scale / prior_scale
        squared = ratio**2 + ((mean - prior_mean) / prior_scale) ** 2
        first_kl = (0.5 * (squared - 1) - ratio.log()).sum()
        second_kl = (0.5 * (top_mean**2 + top_scale**2 - 1) - top_scale.log()).sum()
        return (cross_entropy + first_kl + second_kl) / len(x)

    networks = (encoder, top_encoder, decoder, top_decoder)
    optimizer = _adam([each for network in networks for each in network.parameters()])
    return lambda x: _minimize(optimizer, loss(x))


def vq_step(encoder, decoder, codebook, compiled):
    """Return a step of the VQ-VAE whose codebook the optimizer trains."""

    @compiled
    def loss(x):
        latents = encoder(x).permute(0, 2, 3, 1)
        flat = latents.reshape(-1, 16)
        distances = (codebook.vectors**2).sum(dim=1) - 2 * flat @ codebook.vectors.T
        quantized = codebook.vectors[distances.argmin(dim=1)]
        squared = (flat.detach() - quantized) ** 2 + 0.25 * (flat - quantized.detach()) ** 2
        straight = quantized.detach() + flat - flat.detach()
        logits = decoder(straight.reshape(latents.shape).permute(0, 3, 1, 2))
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (cross_entropy + squared.sum()) / len(x)

    networks = (encoder, decoder, codebook)
    optimizer = _adam([each for network in networks for each in network.parameters()])
    return lambda x: _minimize(optimizer, loss(x))


def table_step(encoder, decoder, compiled):
    """Return a step of a VAE of rows with missing entries, which are NaN.

    The σ of each column of numbers is the one that fits the batch best.
    """
    sizes = [TABLE_NUMBERS, *TABLE_CATEGORIES]

    @compiled
    def loss(x):
        mask = (~x.isnan()).float()
        x = x.nan_to_num()
        numbers, codes = x[:, :TABLE_NUMBERS], x[:, TABLE_NUMBERS:].long()
        one_hots = [
            functional.one_hot(codes[:, index], number) * mask[:, TABLE_NUMBERS + index, None]
            for index, number in enumerate(TABLE_CATEGORIES)
        ]
        features = torch.cat([numbers, *one_hots, mask], dim=1)
        mean, raw_scale = encoder(features).chunk(2, dim=1)
        scale = 1e-4 + (1 - 1e-4) * functional.softplus(raw_scale + RAW_SCALE_OF_ONE)
        z = mean + scale * torch.randn_like(mean)
        location, *logits = decoder(z).split(sizes, dim=1)
        used = mask[:, :TABLE_NUMBERS]
        squared = (numbers - location) ** 2 * used
        variance = (squared.sum(dim=0) / used.sum(dim=0)).clamp(min=math.exp(-12)).detach()
        total = 0.5 * (squared / variance + (2 * math.pi * variance).log() * used).sum()
        for one_hot, of_column in zip(one_hots, logits, strict=True):
            total = total - (one_hot * functional.log_softmax(of_column, dim=1)).sum()
        kl = (0.5 * (mean**2 + scale**2 - 1) - scale.log()).sum()
        return (total + kl) / len(x)

    optimizer = _adam([*encoder.parameters(), *decoder.parameters()])
    return lambda x: _minimize(optimizer, loss(x))


def gan_step(generator, discriminator, compiled):
    """Return a step that updates the discriminator, then the generator, with one Adam each.

    Its loss is the sum of both losses.
    """
    generator_optimizer = _adam(generator.parameters(), 1e-3, 0.5)
    discriminator_optimizer = _adam(discriminator.parameters(), 4e-4, 0.5)

    @compiled
    def generate(latents):
        return generator(latents)

    @compiled
    def discriminator_loss(x, fake):
        real_loss = functional.softplus(-discriminator(x))
        fake_loss = functional.softplus(discriminator(fake))
        return (real_loss + fake_loss).mean()

    @compiled
    def generator_loss(latents):
        return functional.softplus(-discriminator(generator(latents))).mean()

    def step(x):
        with torch.no_grad():
            fake = generate(torch.randn(len(x), 64, device=x.device))
        first_loss = _minimize(discriminator_optimizer, discriminator_loss(x, fake))
        # The generator's update needs no gradients of the discriminator's parameters.
        discriminator.requires_grad_(False)
        latents = torch.randn(len(x), 64, device=x.device)
        second_loss = _minimize(generator_optimizer, generator_loss(latents))
        discriminator.requires_grad_(True)
        return first_loss + second_loss

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
    "residual_vae": (residual_vae, vae_step),
    "hierarchical_vae": (hierarchical_vae, hierarchical_step),
    "vq_vae": (vq_vae, vq_step),
    "table_vae": (table_vae, table_step),
}

# === Competitors ===


def loop(model, batch_size, digits, compiled=False, device="cpu", mixed=False):
    """Return a function that trains for a number of steps, on slices of an array in memory.

    Args:
        model: Name of the model in `MODELS`.
        batch_size: Examples per step.
        digits: File of the images, or of the rows of a table.
        compiled: Whether to use `torch.compile`.
        device: Device of the networks and of the data.
        mixed: Whether the forward pass runs in bfloat16 where PyTorch's autocast allows it.
    """
    if compiled and not shutil.which(os.environ.get("CXX", "g++")):
        raise ImportError("torch.compile needs g++")
    # With compilation, one memory format is faster, and without compilation the other.
    memory_format = torch.contiguous_format if compiled else torch.channels_last
    pair = [network.to(device, memory_format=memory_format) for network in _pair(model)]
    _, make_step = MODELS[model]

    def prepared(function):
        function = torch.compile(function) if compiled else function
        return torch.autocast(device, torch.bfloat16)(function) if mixed else function

    step = make_step(*pair, prepared)
    x = torch.from_numpy(np.load(digits)) if model == "table_vae" else _images(digits)
    if x.dim() == 4:
        x = x.contiguous(memory_format=memory_format)
    x = x.to(device)
    parameters = _size(pair)

    def train(steps):
        losses = []
        order = torch.empty(0, dtype=torch.int64)
        for _ in range(steps):
            if len(order) < batch_size:
                order = torch.randperm(len(x))
            losses.append(step(x[order[:batch_size]]))
            order = order[batch_size:]
        return {"loss": float(torch.stack(losses).mean()), "parameters": parameters}

    return train


def pythae(model, batch_size, digits):
    """Return a function that trains for a number of steps with pythae.

    Its VAE uses a log-variance and probabilities, where ours uses a softplus and logits.
    """
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

    x = _images(digits)
    latents = {"mlp_vae": 50, "conv_vae": 10}[model]
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
    return [network.apply(initialize_as_keras) for network in MODELS[model][0]()]


def _images(digits):
    return torch.from_numpy(np.load(digits)).permute(0, 3, 1, 2).contiguous()


def _size(networks):
    return sum(parameter.numel() for network in networks for parameter in network.parameters())
