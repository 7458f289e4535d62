# SPDX-License-Identifier: Apache-2.0
import json

from gemma4 import FILES, VOCAB
from kit import Case
from transformers import Gemma4UnifiedConfig, Gemma4UnifiedForConditionalGeneration

OTHER = ("vision_embedder.", "embed_vision.", "embed_audio.")


def alone(state):
    """The language model among the parts of a class, as its own class has it."""
    return {k.replace("language_model.", ""): v for k, v in state.items()
            if not k.removeprefix("model.").startswith(OTHER)}


def cases(r):
    s = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=r.choice([64, 96]), num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, global_head_dim=32, num_global_key_value_heads=1,
             attention_k_eq_v=True, sliding_window=r.choice([16, 64]), max_position_embeddings=512)
    vision = dict(mm_embed_dim=64, mm_posemb_size=4, output_proj_dims=64, patch_size=2)

    def released(c):
        """Sizes under names of their own, and keys that the class has not."""
        t = c["text_config"]
        t.pop("per_layer_config")
        t.update(global_head_dim=32, num_global_key_value_heads=1, hidden_size_per_layer_input=0, enable_moe_block=False,
                 final_logit_softcapping=30.0, num_experts=None, top_k_experts=None, moe_intermediate_size=None,
                 vocab_size_per_layer_input=VOCAB)
        c["vocab_size"] = VOCAB
    generation = {"generation_config.json": json.dumps({"suppress_tokens": [3, 5], "top_k": 64, "temperature": 1.0})}
    yield Case("gemma-4-12B-it", Gemma4UnifiedConfig(
        text_config=dict(s, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"],
                         final_logit_softcapping=30.0), vision_config=vision, audio_config=dict(audio_embed_dim=16)),
               Gemma4UnifiedForConditionalGeneration, files=dict(FILES, **generation), pre=False, edit=released, back=alone,
               mlx_back=alone)
    # as transformers writes it, with the key that the reference asks for
    yield Case("gemma-4-12B", Gemma4UnifiedConfig(text_config=dict(s, num_hidden_layers=6)),
               Gemma4UnifiedForConditionalGeneration, dtype="f16", files=FILES, pre=False, back=alone, mlx_back=alone,
               edit=lambda c: c["text_config"].update(moe_intermediate_size=None),
               mlx="mlx-lm does not read per_layer_config", mlx_logits="mlx-lm takes another vocabulary")
