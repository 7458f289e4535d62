/* SPDX-License-Identifier: Apache-2.0 */
/* fake_model.c: the tensors of a made-up model and their values.
 *
 * Names and shapes: transformers' modeling_<family>.py (state_dict) and gguf-py's constants.py. The
 * table is on purpose not src/arch's: tests compare the two. */
#include "fake_model.h"
#include <stdio.h>

enum {
    LLAMA = 1 << FM_LLAMA,
    QWEN2 = 1 << FM_QWEN2,
    QWEN3 = 1 << FM_QWEN3,
    GEMMA3 = 1 << FM_GEMMA3,
    MOE = 1 << FM_QWEN3_MOE,
    ALL = LLAMA | QWEN2 | QWEN3 | GEMMA3 | MOE,
    QWEN3S = QWEN3 | MOE,
    DENSE = LLAMA | QWEN2 | QWEN3 | GEMMA3,
};

/* Shapes by letters, slowest first: V vocab, H hidden, F ffn, Q heads x head_dim, K the same of k
 * and v, D head_dim, E experts. */
typedef struct row {
    const char *hf, *gguf, *shape;
    int families;
    fm_fill fill;
    bool stacked;
} row;

static const row head[] = {
    {"model.embed_tokens.weight", "token_embd.weight", "VH", ALL, FM_EMBEDDING, false},
};

static const row layer[] = {
    {"input_layernorm.weight", "attn_norm.weight", "H", ALL, FM_NORM, false},
    {"self_attn.q_proj.weight", "attn_q.weight", "QH", ALL, FM_MATRIX, false},
    {"self_attn.q_proj.bias", "attn_q.bias", "Q", QWEN2, FM_BIAS, false},
    {"self_attn.k_proj.weight", "attn_k.weight", "KH", ALL, FM_MATRIX, false},
    {"self_attn.k_proj.bias", "attn_k.bias", "K", QWEN2, FM_BIAS, false},
    {"self_attn.v_proj.weight", "attn_v.weight", "KH", ALL, FM_MATRIX, false},
    {"self_attn.v_proj.bias", "attn_v.bias", "K", QWEN2, FM_BIAS, false},
    {"self_attn.o_proj.weight", "attn_output.weight", "HQ", ALL, FM_MATRIX, false},
    {"self_attn.q_norm.weight", "attn_q_norm.weight", "D", QWEN3S | GEMMA3, FM_NORM, false},
    {"self_attn.k_norm.weight", "attn_k_norm.weight", "D", QWEN3S | GEMMA3, FM_NORM, false},
    {"post_attention_layernorm.weight", "ffn_norm.weight", "H", ALL & ~GEMMA3, FM_NORM, false},
    {"post_attention_layernorm.weight", "post_attention_norm.weight", "H", GEMMA3, FM_NORM, false},
    {"pre_feedforward_layernorm.weight", "ffn_norm.weight", "H", GEMMA3, FM_NORM, false},
    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight", "H", GEMMA3, FM_NORM, false},
    {"mlp.gate_proj.weight", "ffn_gate.weight", "FH", DENSE, FM_MATRIX, false},
    {"mlp.up_proj.weight", "ffn_up.weight", "FH", DENSE, FM_MATRIX, false},
    {"mlp.down_proj.weight", "ffn_down.weight", "HF", DENSE, FM_MATRIX, false},
    {"mlp.gate.weight", "ffn_gate_inp.weight", "EH", MOE, FM_MATRIX, false},
    {"mlp.experts.%u.gate_proj.weight", "ffn_gate_exps.weight", "FH", MOE, FM_MATRIX, true},
    {"mlp.experts.%u.up_proj.weight", "ffn_up_exps.weight", "FH", MOE, FM_MATRIX, true},
    {"mlp.experts.%u.down_proj.weight", "ffn_down_exps.weight", "HF", MOE, FM_MATRIX, true},
};

static const row tail[] = {
    {"model.norm.weight", "output_norm.weight", "H", ALL, FM_NORM, false},
    {"lm_head.weight", "output.weight", "VH", ALL & ~GEMMA3, FM_MATRIX, false},
};

const char *fm_family_name(fm_family family) {
    static const char *const names[FM_FAMILIES] = {"llama", "qwen2", "qwen3", "gemma3", "qwen3moe"};
    return names[family];
}

/* ---- specifications ---- */

fm_spec fm_tiny(fm_family family) {
    fm_spec s = {.family = family,
                 .n_layers = 2,
                 .hidden = 256,
                 .ffn = 512,
                 .n_heads = 4,
                 .n_kv_heads = 2,
                 .head_dim = 64,
                 .vocab = 320,
                 .tied = family == FM_GEMMA3,
                 .dtype = LB_BF16,
                 .seed = 1};
    if (family == FM_QWEN3_MOE) {
        s.n_experts = 4;
        s.n_experts_used = 2;
        s.ffn = 256;
    }
    return s;
}

static fm_spec llama3(u64 n_layers, u64 hidden, u64 ffn, u64 n_heads) {
    return (fm_spec){.family = FM_LLAMA,
                     .n_layers = n_layers,
                     .hidden = hidden,
                     .ffn = ffn,
                     .n_heads = n_heads,
                     .n_kv_heads = 8,
                     .head_dim = 128,
                     .vocab = 128256,
                     .dtype = LB_BF16,
                     .max_file_bytes = 5000000000,
                     .sparse = true};
}

fm_spec fm_llama3_70b(void) {
    return llama3(80, 8192, 28672, 64);
}

fm_spec fm_llama3_405b(void) {
    return llama3(126, 16384, 53248, 128);
}

fm_spec fm_moe_1t(void) {
    return (fm_spec){.family = FM_QWEN3_MOE,
                     .n_layers = 61,
                     .hidden = 7168,
                     .ffn = 2048,
                     .n_heads = 64,
                     .n_kv_heads = 8,
                     .head_dim = 128,
                     .vocab = 163840,
                     .n_experts = 384,
                     .n_experts_used = 8,
                     .dtype = LB_BF16,
                     .max_file_bytes = 50000000000,
                     .sparse = true};
}

/* ---- the list of tensors ---- */

static u64 letter(const fm_spec *s, char c) {
    switch (c) {
    case 'V':
        return s->vocab;
    case 'H':
        return s->hidden;
    case 'F':
        return s->ffn;
    case 'Q':
        return s->n_heads * s->head_dim;
    case 'K':
        return s->n_kv_heads * s->head_dim;
    case 'D':
        return s->head_dim;
    default:
        return s->n_experts;
    }
}

typedef struct list {
    const fm_spec *spec;
    lb_arena *perm;
    fm_tensor *t;
    u64 n, cap;
    bool oom;
} list;

static void add(list *l, const row *r, i64 block) {
    const fm_spec *s = l->spec;
    fm_tensor *t = &l->t[l->n];
    if ((r->families & 1 << s->family) == 0 || l->oom)
        return;
    if (s->tied && strcmp(r->hf, "lm_head.weight") == 0)
        return;
    LB_ASSERT(l->n < l->cap);
    *t = (fm_tensor){.seed = s->seed, .fill = r->fill, .rank = (u32)strlen(r->shape)};
    if (block < 0) {
        t->hf = lb_str_c(r->hf);
        t->gguf = lb_str_c(r->gguf);
    } else { /* "%u" in r->hf stays: it is no format here */
        t->hf = lb_arena_printf(l->perm, "model.layers.%lld.%s", (long long)block, r->hf);
        t->gguf = lb_arena_printf(l->perm, "blk.%lld.%s", (long long)block, r->gguf);
    }
    l->oom = !t->hf.ptr || !t->gguf.ptr;
    for (u32 i = 0; i < t->rank; i++)
        t->dim[i] = letter(s, r->shape[i]);
    if (s->family == FM_GEMMA3 && r->fill == FM_NORM)
        t->fill = FM_NORM_PLUS_ONE;
    t->f32_in_gguf = t->rank == 1 || r->shape[0] == 'E';
    t->n_stack = r->stacked ? s->n_experts : 0;
    l->n++;
}

lb_status fm_tensors(const fm_spec *spec, lb_arena *perm, fm_tensor **out, u64 *n, lb_err *err) {
    list l = {.spec = spec, .perm = perm};
    l.cap = spec->n_layers * LB_LEN(layer) + LB_LEN(head) + LB_LEN(tail);
    l.t = lb_arena_new(perm, fm_tensor, l.cap);
    if (!l.t)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a made-up model");
    for (size_t i = 0; i < LB_LEN(head); i++)
        add(&l, &head[i], -1);
    for (u64 b = 0; b < spec->n_layers; b++) {
        for (size_t i = 0; i < LB_LEN(layer); i++)
            add(&l, &layer[i], (i64)b);
    }
    for (size_t i = 0; i < LB_LEN(tail); i++)
        add(&l, &tail[i], -1);
    *out = l.t;
    *n = l.n;
    return l.oom ? lb_fail(err, LB_E_NOMEM, "out of memory for a made-up model") : LB_OK;
}

u64 fm_parameters(const fm_tensor *t, u64 n) {
    u64 sum = 0;
    for (u64 i = 0; i < n; i++)
        sum += t[i].dim[0] * (t[i].rank == 2 ? t[i].dim[1] : 1) * LB_MAX(t[i].n_stack, (u64)1);
    return sum;
}

/* ---- values ---- */

static u64 mix(u64 z) { /* splitmix64's output function */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static u64 name_seed(const fm_tensor *t, u32 expert) {
    u64 h = t->seed * 0x9e3779b97f4a7c15u + expert;
    for (size_t i = 0; i < t->hf.len; i++)
        h = mix(h + (u8)t->hf.ptr[i]);
    return h;
}

/* odd/256 x 2^k: 8 significant bits. One in 64 is eight times larger, as weights have outliers. */
static float centred(u64 r, int k) {
    int odd = (int)(r & 0xff) * 2 - 255;
    int e = k - 8 + ((r >> 8 & 63) == 0 ? 3 : 0);
    return (float)odd * lb_f32_from_bits((u32)(127 + e) << 23);
}

static int log2_floor(u64 n) {
    int k = 0;
    while (n >>= 1)
        k++;
    return k;
}

static float value(const fm_tensor *t, u64 r) {
    switch (t->fill) {
    case FM_NORM: /* 0.5 to 2 */
        return (float)(128 + (r & 127)) * ((r >> 7 & 1) ? 0x1p-7f : 0x1p-8f);
    case FM_NORM_PLUS_ONE: /* to which one is added */
        return centred(r | 1 << 8, -2);
    case FM_EMBEDDING:
        return centred(r, -3);
    case FM_BIAS:
        return centred(r, -4);
    case FM_MATRIX:
        break;
    }
    return centred(r, -log2_floor(t->dim[1]) / 2); /* outputs of about the size of inputs */
}

/* Truncation is exact: 8 significant bits, exponents within f16's normal range. */
static void store(lb_dtype dtype, float v, u8 *out) {
    u32 b = lb_f32_bits(v);
    if (dtype == LB_F32)
        lb_store_u32(out, b);
    else if (dtype == LB_BF16)
        lb_store_u16(out, (u16)(b >> 16));
    else
        lb_store_u16(
            out, (u16)((b >> 16 & 0x8000) | (((b >> 23 & 0xff) - 112) << 10) | (b >> 13 & 0x3ff)));
}

/* Where a block has its f16 scales; the other bytes may be anything. ggml-common.h. */
static const struct {
    lb_dtype dtype;
    i16 at[2];
} blocks[] = {
    {LB_Q4_0, {0, -1}},  {LB_Q4_1, {0, 2}},    {LB_Q5_0, {0, -1}},   {LB_Q5_1, {0, 2}},
    {LB_Q8_0, {0, -1}},  {LB_Q2_K, {80, 82}},  {LB_Q3_K, {108, -1}}, {LB_Q4_K, {0, 2}},
    {LB_Q5_K, {0, 2}},   {LB_Q6_K, {208, -1}}, {LB_IQ4_NL, {0, -1}}, {LB_IQ4_XS, {0, -1}},
    {LB_IQ3_S, {0, -1}}, {LB_IQ2_S, {0, -1}},  {LB_TQ2_0, {64, -1}}, {LB_Q1_0, {0, -1}},
};

static const i16 *scales_of(lb_dtype t) {
    for (size_t i = 0; i < LB_LEN(blocks); i++) {
        if (blocks[i].dtype == t)
            return blocks[i].at;
    }
    return NULL;
}

bool fm_can_fill(lb_dtype t) {
    return t == LB_F32 || t == LB_F16 || t == LB_BF16 || scales_of(t);
}

static void fill_blocks(u64 seed, lb_dtype dtype, u64 first, u64 n, u8 *out) {
    const i16 *at = scales_of(dtype);
    u32 size = lb_dtype_get(dtype)->block_bytes;
    for (u64 i = 0; i < n; i++, out += size) {
        u64 r = seed + (first + i) * 0x9e3779b97f4a7c15u;
        for (u32 b = 0; b < size; b++)
            out[b] = (u8)mix(r + b);
        for (int k = 0; k < 2 && at[k] >= 0; k++) /* 2^-12 to 2^-10: normal, positive */
            lb_store_u16(out + at[k], (u16)(0x0c00 + (mix(r + 1000 + (u64)k) & 0x7ff)));
    }
}

void fm_values(const fm_tensor *t, u32 expert, lb_dtype dtype, u64 from, u64 n_elems, u8 *out) {
    const lb_dtype_info *info = lb_dtype_get(dtype);
    u64 seed = name_seed(t, expert);
    LB_ASSERT(fm_can_fill(dtype));
    if (info->block_elems > 1) {
        fill_blocks(seed, dtype, from / info->block_elems, n_elems / info->block_elems, out);
        return;
    }
    for (u64 i = 0; i < n_elems; i++)
        store(dtype, value(t, mix(seed + (from + i) * 0x9e3779b97f4a7c15u)),
              out + i * info->block_bytes);
}
