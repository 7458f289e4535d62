# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case
from qwen3_next import LAYERS, MLX_LOSSY, add_mtp, linear, mlx_back, without_mtp
from transformers import Qwen3_5Config, Qwen3_5ForCausalLM, Qwen3_5ForConditionalGeneration, Qwen3_5TextConfig

VISION = dict(depth=1, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=64, patch_size=4,
              num_position_embeddings=16)
ALONE = "mlx-lm has no class for the language model alone"


def sizes(r, heads=None):
    return dict(vocab_size=VOCAB, hidden_size=64, num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2,
                head_dim=r.choice([16, 32]), full_attention_interval=2, bos_token_id=BOS, eos_token_id=EOS,
                **linear(r, heads))


def sections(c):
    """As published: sections of the rotation, and both ways of saying which layers are which."""
    t = c.get("text_config", c)
    half = int(t["head_dim"] * 0.25) // 2
    t["rope_parameters"].update(mrope_section=[half - 2 * (half // 3), half // 3, half // 3], mrope_interleaved=True)
    t["full_attention_interval"] = 2


def alone(state):
    """The language model beside a vision tower, as its own class has it."""
    return {k.replace("language_model.", ""): v for k, v in state.items() if "visual." not in k}


def cases(r):
    ff = r.choice([96, 160])
    yield Case("Qwen3.5-9B", Qwen3_5Config(text_config=dict(sizes(r, 3), intermediate_size=ff), vision_config=VISION),
               Qwen3_5ForConditionalGeneration, edit=sections, tensors=lambda t: add_mtp(t, "model.language_model."), mtp=True,
               back=alone, mlx_back=lambda s: mlx_back(alone(without_mtp(s))), mlx_lossy=MLX_LOSSY,
               fuse_qkv=False, quantize=False)
    yield Case("Qwen3.5-text", Qwen3_5TextConfig(**sizes(r), intermediate_size=ff, attention_bias=True),
               Qwen3_5ForCausalLM, dtype="f32", tensors=add_mtp, lossy=("A_log",), mlx=ALONE, mlx_back=without_mtp,
               fuse_qkv=False, mtp=True)
    yield Case("Qwen3.5-0.8B", Qwen3_5Config(text_config=dict(sizes(r, r.choice([1, 2])), intermediate_size=ff,
                                                              tie_word_embeddings=True), vision_config=VISION,
                                             tie_word_embeddings=True),
               Qwen3_5ForConditionalGeneration, dtype="f32", edit=sections, lossy=("A_log",), back=alone, mlx_back=alone,
               fuse_qkv=False, without_mtp=True)
