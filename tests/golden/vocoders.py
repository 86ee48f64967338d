"""How tests/golden/vocoders/*.npz were made: waveforms of the official code for small networks.

    git clone https://github.com/jik876/hifi-gan  && git -C hifi-gan checkout 4769534d45265d52a904b850da5a622601885777
    git clone https://github.com/NVIDIA/BigVGAN   && git -C BigVGAN  checkout 7d2b454564a6c7d014227f635b7423881f14bdac
    git clone https://github.com/gemelo-ai/vocos  && git -C vocos    checkout c859e3b7b534f3776a357983029d34170ddd6fc3
    python tests/golden/vocoders.py FOLDER_OF_THE_THREE     (torch 2.13.0, CPU)

None of that code is in this repository. Weights depend on the tensors' names (`vocoderlike.filled`), so a file holds only
names and shapes (``names``: JSON), the buffers that the official code computes itself, and ``wave`` of `vocoderlike.mel`.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from vocoderlike import CONFIGS, KEPT, filled, mel, vocos  # noqa: E402


class Attributes(dict[str, Any]):
    """What the official code calls AttrDict."""

    __getattr__ = dict.__getitem__


def write(name: str, network: torch.nn.Module, call: Callable[[torch.Tensor], torch.Tensor], n_mels: int) -> None:
    """Fill, run, store."""
    state = network.state_dict()
    kept = {key: value for key, value in state.items() if key.rpartition(".")[2] in KEPT}
    shapes = {key: list(value.shape) for key, value in state.items() if key not in kept}
    new = {key: torch.from_numpy(value) for key, value in filled(shapes).items()}
    network.load_state_dict({**new, **kept})
    network.eval()
    with torch.no_grad():
        wave = call(torch.from_numpy(mel(n_mels).T[None])).reshape(-1).numpy()
    buffers = {f"kept/{key}": value.numpy() for key, value in kept.items()}
    distinct: dict[str, Any] = {}
    for key, value in buffers.items():  # a filter for each activation, all alike: one of a kind is enough
        if not any(np.array_equal(value, other) for other in distinct.values()):
            distinct[key] = value
    names = {**shapes, **{key: list(value.shape) for key, value in kept.items()}}
    np.savez_compressed(HERE / "vocoders" / f"{name}.npz", names=np.frombuffer(json.dumps(names).encode(), np.uint8), wave=wave, **distinct)  # fmt: skip
    print(name, wave.shape, f"rms {np.sqrt((wave**2).mean()):.3f}", f"peak {np.abs(wave).max():.3f}")  # noqa: T201


def fresh(folder: Path) -> None:
    """Modules called utils, env and models are in more than one of the three."""
    for name in ("utils", "env", "models", "activations", "bigvgan", "meldataset"):
        sys.modules.pop(name, None)
    sys.path.insert(0, str(folder))


def main(root: Path) -> None:
    """Write all of them."""
    (HERE / "vocoders").mkdir(exist_ok=True)
    fresh(root / "hifi-gan")
    import models

    for name in ("hifigan_1", "hifigan_2"):
        network = models.Generator(Attributes(CONFIGS[name]))
        write(name, network, network, 80)
    fresh(root / "BigVGAN")
    sys.modules["meldataset"] = types.SimpleNamespace(MAX_WAV_VALUE=32768.0)  # type: ignore[assignment] - its readers of audio are not run
    import bigvgan

    for name in ("bigvgan_1", "bigvgan_2", "bigvgan_3"):
        network = bigvgan.BigVGAN(Attributes(CONFIGS[name]))
        write(name, network, network, 20)
    fresh(root / "vocos")
    # The mel transform and EnCodec are imported there and not run here.
    stub: Any = types.ModuleType("torchaudio")
    stub._hz_to_mel = stub._mel_to_hz = stub.EncodecModel = None
    for name in ("torchaudio", "torchaudio.functional", "torchaudio.functional.functional", "encodec"):
        sys.modules[name] = stub
    import vocos.heads
    import vocos.models
    import vocos.pretrained

    for padding in ("center", "same"):
        c = vocos_config(padding)
        network = vocos.pretrained.Vocos(torch.nn.Module(), vocos.models.VocosBackbone(**c["backbone"]["init_args"]), vocos.heads.ISTFTHead(**c["head"]["init_args"]))  # fmt: skip
        write(f"vocos_{padding}", network, network.decode, 10)


vocos_config = vocos

if __name__ == "__main__":
    main(Path(sys.argv[1]))
