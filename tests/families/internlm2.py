# SPDX-License-Identifier: Apache-2.0
import json

from kit import BOS, EOS, Case

VOCAB = 360  # the reference asks its tokenizer.model for each of them
# Tokens of a chat model: behind the vocabulary, and in places of pieces.
CHAT = {"added_tokens.json": json.dumps({"<|plugin|>": 360}),
        "tokenizer_config.json": json.dumps({
            "tokenizer_class": "InternLM2Tokenizer", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>",
            "unk_token": "<unk>", "added_tokens_decoder": {
                "3": {"content": "<unk>", "special": True}, "357": {"content": "<|im_end|>", "special": True},
                "358": {"content": "<|im_start|>", "special": True}, "359": {"content": "\u2581call", "special": False}}})}


def model(c):
    h, f, kv = c["hidden_size"], c["intermediate_size"], c["num_key_value_heads"]
    head = h // c["num_attention_heads"]
    t = {"model.tok_embeddings.weight": [VOCAB, h], "model.norm.weight": [h]}
    if not c["tie_word_embeddings"]:
        t["output.weight"] = [VOCAB, h]
    for b in range(c["num_hidden_layers"]):
        p = "model.layers.%d." % b
        t.update({p + "attention.wqkv.weight": [h + 2 * kv * head, h], p + "attention.wo.weight": [h, h],
                  p + "feed_forward.w1.weight": [f, h], p + "feed_forward.w2.weight": [h, f],
                  p + "feed_forward.w3.weight": [f, h], p + "attention_norm.weight": [h], p + "ffn_norm.weight": [h]})
    return t


def cases(r):
    def case(label, dtype, files=None, **kw):
        c = dict(architectures=["InternLM2ForCausalLM"], model_type="internlm2", hidden_size=r.choice([64, 128]),
                 intermediate_size=r.choice([96, 160]), num_hidden_layers=2, num_attention_heads=8,
                 num_key_value_heads=r.choice([1, 2, 4, 8]), vocab_size=VOCAB, rms_norm_eps=1e-05, bias=False,
                 hidden_act="silu", max_position_embeddings=512, rope_theta=1000000, rope_scaling=None,
                 tie_word_embeddings=False, bos_token_id=BOS, eos_token_id=EOS,
                 torch_dtype={"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype], **kw)
        return Case(label, c, tensors=model(c), dtype=dtype, files=files, tokenizer="spm", logits=False)
    yield case("internlm2-chat-7b", "bf16", files=CHAT)
    yield case("internlm2-1_8b", "f16")
