# SPDX-License-Identifier: Apache-2.0
import kit
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import StableLmConfig, StableLmForCausalLM


def epoch(c):
    """The class and the keys of 2023."""
    old_rope(architectures=["StableLMEpochForCausalLM"], model_type="stablelm_epoch", rope_pct=0.25, norm_eps=1e-05,
             layer_norm_eps=None)(c)
    for k in ("use_parallel_residual", "rope_scaling", "rope_theta"):
        del c[k]


def mended():
    """The reference stacks the norms of heads in a generator that nobody runs: it gathers them, then says that they
    are left over. Here it is run."""
    from conversion.base import TextModel
    from conversion.stablelm import StableLMModel

    def modify_tensors(self, data, name, bid):
        for layer, n in (("q_layernorm", "num_attention_heads"), ("k_layernorm", "num_key_value_heads")):
            if layer + ".norms" in name:
                norms = self.__dict__.setdefault("gathered", {}).setdefault((bid, layer), {})
                norms[name] = data
                if len(norms) == self.hparams[n]:
                    yield from self._stack_qk_norm(bid, self.hparams[n], norms, layer)
                return
        yield from TextModel.modify_tensors(self, data, name, bid)
    StableLMModel.modify_tensors = modify_tensors


def cases(r):
    if kit.SCRIPT:
        mended()
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 128]), intermediate_size=r.choice([96, 160]),
             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]),
             bos_token_id=BOS, eos_token_id=EOS)
    yield Case("stablelm-2-1_6b", StableLmConfig(**s, use_qkv_bias=True), StableLmForCausalLM,
               edit=old_rope(partial_rotary_factor=0.25))
    yield Case("stablelm-2-zephyr-1_6b", StableLmConfig(**s), StableLmForCausalLM, dtype="f32",
               mlx="mlx-lm's class asks for rope_theta and partial_rotary_factor")
    yield Case("stablelm-3b-4e1t", StableLmConfig(**s), StableLmForCausalLM, edit=epoch, logits="",
               mlx="mlx-lm has no class")
    s.update(hidden_size=192, num_attention_heads=12, num_key_value_heads=r.choice([2, 4, 12]))
    yield Case("stablelm-2-12b-chat", StableLmConfig(**s, qk_layernorm=True, use_parallel_residual=True),
               StableLmForCausalLM, dtype="f16", shard="200KB", edit=old_rope(partial_rotary_factor=r.choice([0.25, 0.5])))
