# SPDX-License-Identifier: Apache-2.0
from kit import BOS, EOS, VOCAB, Case, old_rope
from transformers import Lfm2Config, Lfm2ForCausalLM, Lfm2VlConfig, Lfm2VlForConditionalGeneration


def alone(state):
    """The language model beside a vision tower, as its own class has it."""
    return {k.replace("language_model.", ""): v for k, v in state.items()
            if not k.removeprefix("model.").startswith(("vision_tower.", "multi_modal_projector."))}


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=r.choice([64, 96]), intermediate_size=r.choice([96, 160]),
             num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=r.choice([1, 2, 4]),
             bos_token_id=BOS, eos_token_id=EOS, conv_L_cache=r.choice([3, 4]))
    m = Lfm2ForCausalLM
    adds = ("block_dim", "layer_types", "rope_theta")
    own = "mlx-lm's class asks for block_dim, which transformers does not write"
    yield Case("LFM2-1.2B", Lfm2Config(**s, layer_types=["conv", "full_attention", "conv"], block_multiple_of=32,
                                       block_ffn_dim_multiplier=r.choice([1.0, 1.3])), m,
               edit=old_rope(1000000.0, block_dim=s["hidden_size"]), mlx_adds=adds)
    yield Case("lfm2-by-number", Lfm2Config(**s, full_attn_idxs=[0, 2], block_auto_adjust_ff_dim=False), m, dtype="f16",
               edit=lambda c: [c.pop("layer_types"), c.update(tie_embedding=c.pop("tie_word_embeddings"),
                                                              block_ff_dim=c.pop("intermediate_size"))],
               mlx=own, mlx_adds=adds)
    vision = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, num_patches=4,
                  patch_size=4, vision_use_head=False)

    def published(c):
        c["text_config"]["architectures"] = ["Lfm2ForCausalLM"]
        c["text_config"]["block_dim"] = s["hidden_size"]
        c.pop("tie_word_embeddings")
        c["text_config"].pop("tie_word_embeddings")
    yield Case("LFM2.5-VL-1.6B", Lfm2VlConfig(
        text_config=dict(s, num_hidden_layers=2, layer_types=["conv", "full_attention"], block_multiple_of=32),
        vision_config=vision, projector_hidden_size=32), Lfm2VlForConditionalGeneration, edit=published, back=alone,
               mlx_back=alone, mlx="mlx-lm calls it lfm2-vl")
