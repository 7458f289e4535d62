/* SPDX-License-Identifier: Apache-2.0 */
/* tok_class.c: which class transformers opens a folder's tokenizer with, and the special tokens
 * that the class brings along where the folder names none.
 *
 * A class that builds its tokenizer anew puts its own unknown, BOS, EOS... into the vocabulary; the
 * reference converter sees the result. Source: transformers 5.24, models/auto/tokenization_auto.py
 * and the signatures of the classes. Which pre-tokenizer, normalizer and decoder a class builds is
 * not followed: those of tokenizer.json are what the model was made with. */
#include "text/tok_folder.h"

#define NAMED_MAX 8

static const struct lb_tok_class {
    const char *name; /* without "Fast" */
    lb_tok_default token[NAMED_MAX + 1];
} classes[] = {
    {"LlamaTokenizer", {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}}},
    {"CodeLlamaTokenizer",
     {{"bos_token", "<s>"},
      {"eos_token", "</s>"},
      {"unk_token", "<unk>"},
      {"prefix_token", "\xe2\x96\x81<PRE>"},
      {"middle_token", "\xe2\x96\x81<MID>"},
      {"suffix_token", "\xe2\x96\x81<SUF>"},
      {"eot_token", "\xe2\x96\x81<EOT>"},
      {"fill_token", "<FILL_ME>"}}},
    {"GemmaTokenizer",
     {{"bos_token", "<bos>"},
      {"eos_token", "<eos>"},
      {"unk_token", "<unk>"},
      {"pad_token", "<pad>"},
      {"mask_token", "<mask>"}}},
    {"Qwen2Tokenizer",
     {{"eos_token", "<|endoftext|>"},
      {"unk_token", "<|endoftext|>"},
      {"pad_token", "<|endoftext|>"}}},
    {"Qwen3_5Tokenizer",
     {{"eos_token", "<|endoftext|>"},
      {"unk_token", "<|endoftext|>"},
      {"pad_token", "<|endoftext|>"}}},
    {"GPT2Tokenizer",
     {{"bos_token", "<|endoftext|>"},
      {"eos_token", "<|endoftext|>"},
      {"unk_token", "<|endoftext|>"}}},
    {"GPTNeoXTokenizer",
     {{"bos_token", "<|endoftext|>"},
      {"eos_token", "<|endoftext|>"},
      {"unk_token", "<|endoftext|>"},
      {"pad_token", "<|padding|>"}}},
    {"CohereTokenizer",
     {{"bos_token", "<BOS_TOKEN>"},
      {"eos_token", "<|END_OF_TURN_TOKEN|>"},
      {"unk_token", "<UNK>"},
      {"sep_token", "<SEP>"},
      {"pad_token", "<PAD>"},
      {"cls_token", "<CLS>"},
      {"mask_token", "<MASK_TOKEN>"}}},
};

/* The class that a model type is registered with. forced: whatever the folder says. */
static const struct {
    const char *model_type, *name; /* name "": the general class, which has no defaults */
    bool forced;
} registered[] = {
    {"qwen2", "Qwen2Tokenizer", true},
    {"qwen3", "Qwen2Tokenizer", false},
    {"gpt2", "GPT2Tokenizer", false},
    {"gemma", "GemmaTokenizer", false},
    {"gemma2", "GemmaTokenizer", false},
    {"gemma3", "GemmaTokenizer", false},
    {"gemma3_text", "GemmaTokenizer", false},
    {"mistral", "", true},
    {"mixtral", "", true},
    {"qwen2_moe", "Qwen2Tokenizer", false},
    {"qwen3_moe", "Qwen2Tokenizer", false},
    {"qwen3_next", "Qwen2Tokenizer", false},
    {"qwen3_5", "Qwen3_5Tokenizer", true},
    {"qwen3_5_text", "Qwen3_5Tokenizer", false},
    {"qwen3_5_moe", "Qwen3_5Tokenizer", true},
    {"qwen3_5_moe_text", "Qwen3_5Tokenizer", true},
    {"olmoe", "GPTNeoXTokenizer", false},
    {"cohere", "CohereTokenizer", false},
    {"cohere2", "CohereTokenizer", false},
    {"starcoder2", "GPT2Tokenizer", false},
    {"olmo2", "", true},
    {"olmo3", "", true},
    {"granite", "", true},
    {"granitemoe", "", true},
    {"internlm2", "", true},
    {"ernie4_5", "", true},
    {"ernie4_5_moe", "", true},
    {"ministral", "", true},
    {"ministral3", "", true},
    {"mistral3", "", true},
    {"phi3", "", true},
    {"phimoe", "", true},
    {"nemotron", "", true},
    {"stablelm", "", true},
    {"glm", "", true},
    {"glm4", "", true},
    {"glm4_moe", "", true},
    {"minimax_m2", "", true},
};

static lb_str without_fast(lb_str name) {
    lb_str fast = LB_STR("Fast");
    return lb_str_ends(name, fast) ? lb_str_sub(name, 0, name.len - fast.len) : name;
}

/* As transformers looks for it: anywhere in the file. */
static bool says_byte_level(const lb_hf_tok *t) {
    u64 id;
    size_t at;
    return lb_str_find(t->skeleton, LB_STR("\"ByteLevel\""), &at) ||
           lb_texts_index_find(&t->id_of, &t->token, LB_STR("ByteLevel"), &id);
}

lb_str lb_tok_class_name(const lb_tok_folder *f) {
    lb_str name = LB_STR_NONE, type = LB_STR_NONE;
    if (!lb_json_as_str(lb_json_get(f->tok_config, "tokenizer_class"), &name))
        (void)lb_json_as_str(lb_json_get(f->config, "tokenizer_class"), &name);
    (void)lb_json_as_str(lb_json_get(f->config, "model_type"), &type);
    name = without_fast(name);
    bool forced = false;
    for (u32 i = 0; i < LB_LEN(registered); i++)
        if (lb_str_eq_c(type, registered[i].model_type) && (registered[i].forced || !name.len)) {
            name = lb_str_c(registered[i].name);
            forced = true;
        }
    /* LlamaTokenizer over a byte-level file is held to be a mistake of the folder. */
    if (!forced && lb_str_eq_c(name, "LlamaTokenizer") && f->has_tokenizer &&
        says_byte_level(&f->tok))
        return LB_STR_NONE;
    return name;
}

const lb_tok_default *lb_tok_class_defaults(const lb_tok_folder *f) {
    static const lb_tok_default none[1] = {{NULL, NULL}};
    lb_str name = lb_tok_class_name(f);
    for (u32 i = 0; i < LB_LEN(classes); i++)
        if (lb_str_eq_c(name, classes[i].name))
            return classes[i].token;
    return none;
}
