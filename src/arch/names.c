/* SPDX-License-Identifier: Apache-2.0 */
/* names.c: stored tensor names <-> rows of a family's table.
 *
 * A name is reduced once to its skeleton (its first two all-digit components become {b} and {e},
 * the suffix is set aside); rows are then compared by length first, so a look-up costs some tens of
 * nanoseconds however many layers and experts a model has. */
#include "arch/arch_internal.h"

/* Longer names belong to no family; GGUF allows 63 bytes. */
#define NAME_BYTES_MAX 256

typedef struct skeleton {
    char text[NAME_BYTES_MAX + 8]; /* both numbers may grow from "0" to "{b}" */
    size_t len;
    size_t suffix_len; /* of text, when the name ends with a suffix */
    u8 suffix;         /* LB_SUFFIX_WEIGHT, LB_SUFFIX_BIAS or 0 */
    u32 index[2];
    u32 n_index;
} skeleton;

/* A layer's or an expert's number: decimal digits as printf writes them. */
static bool parse_index(lb_str s, u32 *out) {
    u64 v;
    if (s.len == 0 || s.len > 10 || s.ptr[0] < '0' || s.ptr[0] > '9' ||
        (s.len > 1 && s.ptr[0] == '0') || !lb_str_to_u64(s, &v) || v >= LB_NO_INDEX)
        return false;
    *out = (u32)v;
    return true;
}

static bool make_skeleton(lb_str name, skeleton *sk) {
    static const char hole[2][4] = {"{b}", "{e}"};
    size_t at = 0;
    sk->len = 0;
    sk->n_index = 0;
    sk->index[0] = sk->index[1] = LB_NO_INDEX;
    if (name.len == 0 || name.len > NAME_BYTES_MAX || memchr(name.ptr, '{', name.len))
        return false; /* a brace would pass for a hole of the pattern */
    while (at <= name.len) {
        const char *dot = at < name.len ? memchr(name.ptr + at, '.', name.len - at) : NULL;
        size_t end = dot ? (size_t)(dot - name.ptr) : name.len;
        lb_str part = {name.ptr + at, end - at};
        if (sk->n_index < 2 && parse_index(part, &sk->index[sk->n_index]))
            part = (lb_str){hole[sk->n_index++], 3};
        memcpy(sk->text + sk->len, part.ptr, part.len);
        sk->len += part.len;
        if (end < name.len)
            sk->text[sk->len++] = '.';
        at = end + 1;
    }
    lb_str all = {sk->text, sk->len};
    sk->suffix = lb_str_ends(all, LB_STR(".weight")) ? LB_SUFFIX_WEIGHT
                 : lb_str_ends(all, LB_STR(".bias")) ? LB_SUFFIX_BIAS
                                                     : 0;
    sk->suffix_len = sk->suffix == LB_SUFFIX_WEIGHT ? 7 : sk->suffix == LB_SUFFIX_BIAS ? 5 : 0;
    return true;
}

lb_str lb_arch_row_name(const lb_arch_tensor *row, lb_world world) {
    return world == LB_WORLD_HF ? row->hf : world == LB_WORLD_MLX ? row->mlx : row->gguf;
}

lb_relayout lb_arch_row_relayout(const lb_arch_tensor *row, lb_world world) {
    return world == LB_WORLD_GGUF  ? row->relayout
           : world == LB_WORLD_MLX ? row->mlx_relayout
                                   : row->hf_relayout;
}

bool lb_arch_is_conv1d(const lb_arch_tensor *row) {
    return row->relayout == LB_RL_TRANSPOSE && row->mlx_relayout == LB_RL_TRANSPOSE &&
           row->hf_relayout == LB_RL_NONE && row->part[LB_WORLD_HF] == LB_PART_ALL;
}

static bool has_hole(lb_str name, const char *hole) {
    size_t at;
    return lb_str_find(name, lb_str_c(hole), &at);
}

bool lb_arch_is_stacked(const lb_arch_tensor *row, lb_world world) {
    return (row->flags & LB_ROW_STACK) && !has_hole(lb_arch_row_name(row, world), "{e}");
}

u64 lb_arch_n_stack(const lb_arch_tensor *row, const lb_hparams *hp) {
    return row->flags & LB_ROW_EXPERT    ? hp->n_expert
           : row->flags & LB_ROW_HEAD    ? hp->n_head
           : row->flags & LB_ROW_HEAD_KV ? hp->n_head_kv
                                         : 1;
}

bool lb_arch_is_flat(const lb_arch_tensor *row, lb_world world) {
    return (row->flags & LB_ROW_HEAD) && row->part[world] != LB_PART_ALL;
}

const lb_arch_tensor *lb_arch_value_row(const lb_arch *a, const lb_arch_tensor *row) {
    for (u32 i = 0; i < a->n_rows && (row->flags & LB_ROW_HF_CODES); i++)
        if (!(a->rows[i].flags & LB_ROW_HF_CODES) && lb_str_eq(a->rows[i].gguf, row->gguf))
            return &a->rows[i];
    return row;
}

static lb_str gguf_stem(const lb_arch_tensor *row) {
    bool whole = row->suffixes == LB_SUFFIX_NONE && lb_str_ends(row->gguf, LB_STR(".weight"));
    return lb_str_sub(row->gguf, 0, row->gguf.len - (whole ? 7 : 0));
}

lb_arch_match lb_arch_first_form(const lb_arch *a, const lb_arch_match *m) {
    lb_arch_match first = *m;
    lb_str stem = gguf_stem(m->row);
    for (u32 i = 0; i < a->n_rows && stem.len && &a->rows[i] != m->row; i++) {
        const lb_arch_tensor *row = &a->rows[i];
        if (row->role == m->row->role && !((row->flags ^ m->row->flags) & LB_ROW_MTP) &&
            lb_str_eq(gguf_stem(row), stem)) {
            first.row = row;
            if (m->suffix == LB_SUFFIX_NONE && stem.len != m->row->gguf.len &&
                (row->suffixes & LB_SUFFIX_WEIGHT))
                first.suffix = LB_SUFFIX_WEIGHT;
            break;
        }
    }
    return first;
}

bool lb_arch_part_is_woven(lb_part part) {
    return part == LB_PART_GROUP_Q || part == LB_PART_GROUP_K || part == LB_PART_GROUP_V ||
           part == LB_PART_EVEN || part == LB_PART_ODD ||
           (part >= LB_PART_NET_Q && part <= LB_PART_NET_Z);
}

/* q, k and v of linear attention, one after the other or, with a gate, group by group. */
static bool ssm_part(lb_part part, const lb_hparams *hp, u64 n_rows, lb_part_rows *out) {
    u64 groups = hp->ssm_groups, state = hp->ssm_state, keys, all;
    if (groups == 0 || state == 0 || hp->ssm_inner == 0 || hp->ssm_inner % groups ||
        !lb_mul_u64(groups, state, &keys) || !lb_add_u64(keys, keys, &all) ||
        !lb_add_u64(all, hp->ssm_inner, &all))
        return false;
    u64 values = hp->ssm_inner / groups;
    if (part <= LB_PART_SSM_V) {
        u64 from = part == LB_PART_SSM_Q ? 0 : part == LB_PART_SSM_K ? keys : 2 * keys;
        *out = (lb_part_rows){from, 1, 1, part == LB_PART_SSM_V ? hp->ssm_inner : keys};
        return all == n_rows;
    }
    u64 from = part == LB_PART_NET_Q   ? 0
               : part == LB_PART_NET_K ? state
               : part == LB_PART_NET_V ? 2 * state
                                       : 2 * state + values;
    u64 run = part <= LB_PART_NET_K ? state : values;
    *out = (lb_part_rows){from, run, n_rows / groups, run * groups};
    return lb_add_u64(all, hp->ssm_inner, &all) && all == n_rows;
}

/* Whether these are the rows of q, k and v with heads of `dim`. */
static bool heads_fill(const lb_hparams *hp, u64 dim, u64 n_rows, u64 *q, u64 *kv) {
    u64 n;
    return dim && lb_mul_u64(hp->n_head, dim, q) && lb_mul_u64(hp->n_head_kv, dim, kv) &&
           lb_add_u64(*q, *kv, &n) && lb_add_u64(n, *kv, &n) && n == n_rows;
}

lb_status lb_arch_part_rows(lb_part part, const lb_hparams *hp, u64 n_rows, lb_part_rows *out,
                            lb_err *err) {
    u64 q = 0, kv = 0, want = n_rows;
    *out = (lb_part_rows){0, 1, 1, n_rows};
    switch (part) {
    case LB_PART_ALL:
        return LB_OK;
    case LB_PART_Q:
    case LB_PART_K:
    case LB_PART_V:
        if (!heads_fill(hp, hp->head_dim, n_rows, &q, &kv) &&
            !heads_fill(hp, hp->window_dim, n_rows, &q, &kv))
            break;
        *out = part == LB_PART_Q ? (lb_part_rows){0, 1, 1, q}
                                 : (lb_part_rows){part == LB_PART_K ? q : q + kv, 1, 1, kv};
        return LB_OK;
    case LB_PART_GROUP_Q:
    case LB_PART_GROUP_K:
    case LB_PART_GROUP_V:
        if (!lb_mul_u64(hp->n_head, hp->head_dim, &q) ||
            !lb_mul_u64(hp->n_head_kv, hp->head_dim, &kv) || !lb_add_u64(q, kv, &want) ||
            !lb_add_u64(want, kv, &want) || want != n_rows || hp->n_head % hp->n_head_kv != 0)
            break;
        q /= hp->n_head_kv; /* of a group */
        *out = (lb_part_rows){part == LB_PART_GROUP_Q   ? 0
                              : part == LB_PART_GROUP_K ? q
                                                        : q + hp->head_dim,
                              part == LB_PART_GROUP_Q ? q : hp->head_dim, q + 2 * hp->head_dim,
                              part == LB_PART_GROUP_Q ? q * hp->n_head_kv : kv};
        return LB_OK;
    case LB_PART_FIRST:
    case LB_PART_SECOND:
        if (n_rows % 2 != 0)
            break;
        *out = (lb_part_rows){part == LB_PART_FIRST ? 0 : n_rows / 2, 1, 1, n_rows / 2};
        return LB_OK;
    case LB_PART_EVEN:
    case LB_PART_ODD:
        if (n_rows % 2 != 0)
            break;
        *out = (lb_part_rows){part == LB_PART_ODD, 1, 2, n_rows / 2};
        return LB_OK;
    case LB_PART_NOPE:
    case LB_PART_VALUE:
        if (!hp->nope_dim || !hp->value_dim || !lb_add_u64(hp->nope_dim, hp->value_dim, &want) ||
            want != n_rows)
            break;
        *out = part == LB_PART_NOPE ? (lb_part_rows){0, 1, 1, hp->nope_dim}
                                    : (lb_part_rows){hp->nope_dim, 1, 1, hp->value_dim};
        return LB_OK;
    default:
        if (ssm_part(part, hp, n_rows, out))
            return LB_OK;
    }
    return lb_fail(err, LB_E_FORMAT, "%llu rows do not divide into the parts that the config says",
                   (unsigned long long)n_rows);
}

static bool has_mtp(const lb_arch *a) {
    for (u32 i = 0; i < a->n_rows; i++)
        if (a->rows[i].flags & LB_ROW_MTP)
            return true;
    return false;
}

/* Layer and part of a name that fits the row. False: the row is of other layers. */
static bool place(const lb_arch *a, const lb_hparams *hp, lb_world world, const skeleton *sk,
                  lb_arch_match *m) {
    lb_str name = lb_arch_row_name(m->row, world);
    bool mtp_row = (m->row->flags & LB_ROW_MTP) != 0;
    u64 layer = sk->index[0];
    m->layer = sk->index[0];
    m->expert = sk->index[1];
    m->mtp = LB_NO_INDEX;
    if (mtp_row && !has_hole(name, "{b}")) {
        m->mtp = has_hole(name, "{m}") ? sk->index[0] : 0;
        if (!lb_add_u64(hp->n_layers, m->mtp, &layer) || layer >= LB_NO_INDEX)
            return false;
        m->layer = (u32)layer;
    } else if (m->layer != LB_NO_INDEX && layer >= hp->n_layers && (mtp_row || has_mtp(a))) {
        m->mtp = (u32)(layer - hp->n_layers);
    }
    m->extra = m->mtp != LB_NO_INDEX ? LB_EXTRA_MTP : LB_EXTRA_NONE;
    return !mtp_row || m->mtp != LB_NO_INDEX;
}

/* text: a skeleton, whose first number is {b}. */
static bool fits(lb_str pattern, bool mtp_row, lb_str text) {
    size_t at;
    if (pattern.len != text.len)
        return false;
    if (!mtp_row || !lb_str_find(pattern, LB_STR("{m}"), &at))
        return lb_str_eq(pattern, text);
    return lb_str_eq(lb_str_sub(pattern, 0, at), lb_str_sub(text, 0, at)) &&
           lb_str_eq(lb_str_sub(text, at, at + 3), LB_STR("{b}")) &&
           lb_str_eq(lb_str_sub(pattern, at + 3, pattern.len), lb_str_sub(text, at + 3, text.len));
}

/* The next row with the name takes another part of the tensor; else it is another form. */
static bool is_next_part(const lb_arch *a, lb_world world, const lb_arch_match *m) {
    const lb_arch_tensor *next = m->row + m->n_rows;
    if (next == a->rows + a->n_rows || (next->flags & LB_ROW_MTP) != (m->row->flags & LB_ROW_MTP) ||
        !lb_str_eq(lb_arch_row_name(next, world), lb_arch_row_name(m->row, world)))
        return false;
    for (u32 i = 0; i < m->n_rows; i++)
        if (m->row[i].part[world] == next->part[world])
            return false;
    return true;
}

/* Where a row of multi-token prediction and another have one name, the layer says which it is. */
static bool find_skeleton(const lb_arch *a, const lb_hparams *hp, lb_world world,
                          const skeleton *sk, lb_arch_match *out) {
    lb_str stem = {sk->text, sk->len - sk->suffix_len}, whole = {sk->text, sk->len};
    bool found = false;
    for (u32 i = 0; i < a->n_rows; i++) {
        const lb_arch_tensor *row = &a->rows[i];
        lb_str name = lb_arch_row_name(row, world);
        u16 mtp_row = row->flags & LB_ROW_MTP;
        if (name.len == 0)
            continue;
        u8 suffix = 0;
        if ((row->suffixes & sk->suffix) && fits(name, mtp_row, stem))
            suffix = sk->suffix;
        else if ((row->suffixes & LB_SUFFIX_NONE) && fits(name, mtp_row, whole))
            suffix = LB_SUFFIX_NONE;
        lb_arch_match m = {.row = row, .n_rows = 1, .suffix = suffix};
        if (!suffix || (found && !mtp_row) || !place(a, hp, world, sk, &m))
            continue;
        while (is_next_part(a, world, &m))
            m.n_rows++;
        *out = m;
        found = true;
        if (mtp_row || m.extra == LB_EXTRA_NONE)
            break;
    }
    return found;
}

/* The name without the first "<part>" in it; false when it has none. */
static bool without(const skeleton *sk, lb_str part, skeleton *out) {
    size_t pos;
    if (!lb_str_find((lb_str){sk->text, sk->len}, part, &pos))
        return false;
    *out = *sk;
    memmove(out->text + pos, out->text + pos + part.len, out->len - pos - part.len);
    out->len -= part.len;
    return true;
}

/* Prefixes as the reference takes them: conversion/base.py filter_tensors ("language_model."),
 * conversion/llama.py ("text_model.", "model." for classes without a head); those of MLX always
 * have "model.". */
static bool find_prefixed(const lb_arch *a, const lb_hparams *hp, lb_world world,
                          const skeleton *sk, lb_arch_match *out) {
    static const lb_str prefixes[] = {LB_N("language_model."), LB_N("text_model.")};
    skeleton s, bare;
    for (size_t i = 0; i < LB_LEN(prefixes); i++)
        if (without(sk, prefixes[i], &s) && find_skeleton(a, hp, world, &s, out))
            return true;
    if (a->old_prefix && world == LB_WORLD_HF &&
        lb_str_starts((lb_str){sk->text, sk->len}, lb_str_c(a->old_prefix)) &&
        without(sk, lb_str_c(a->old_prefix), &bare))
        sk = &bare;
    lb_str more = lb_str_c(a->prefix && world == LB_WORLD_HF ? a->prefix : "model.");
    if (sk->len + more.len > sizeof s.text || lb_str_starts((lb_str){sk->text, sk->len}, more))
        return false;
    s = *sk;
    memcpy(s.text, more.ptr, more.len);
    memcpy(s.text + more.len, sk->text, sk->len);
    s.len += more.len;
    return find_skeleton(a, hp, world, &s, out);
}

bool lb_arch_find(const lb_arch *a, const lb_hparams *hp, lb_world world, lb_str name,
                  lb_arch_match *out) {
    skeleton sk;
    if (!make_skeleton(name, &sk))
        return false;
    if (find_skeleton(a, hp, world, &sk, out))
        return true;
    return world != LB_WORLD_GGUF && find_prefixed(a, hp, world, &sk, out);
}

lb_str lb_arch_tensor_name(const lb_arch_tensor *row, lb_world world, const lb_arch_match *m,
                           lb_arena *perm) {
    char text[NAME_BYTES_MAX + 32];
    lb_str pattern = lb_arch_row_name(row, world);
    size_t len = 0;
    if (pattern.len == 0)
        return LB_STR("");
    for (size_t i = 0; i < pattern.len;) {
        lb_str rest = lb_str_sub(pattern, i, pattern.len);
        bool layer = lb_str_starts(rest, LB_STR("{b}")), mtp = lb_str_starts(rest, LB_STR("{m}"));
        if (!layer && !mtp && !lb_str_starts(rest, LB_STR("{e}"))) {
            text[len++] = pattern.ptr[i++];
            continue;
        }
        char digits[10];
        size_t n = 0;
        u32 v = layer ? m->layer : mtp ? m->mtp : m->expert;
        do
            digits[n++] = (char)('0' + v % 10);
        while ((v /= 10) != 0);
        while (n)
            text[len++] = digits[--n];
        i += 3;
        LB_ASSERT(len < NAME_BYTES_MAX);
    }
    lb_str suffix = m->suffix == LB_SUFFIX_WEIGHT ? LB_STR(".weight")
                    : m->suffix == LB_SUFFIX_BIAS ? LB_STR(".bias")
                                                  : LB_STR("");
    if (suffix.len)
        memcpy(text + len, suffix.ptr, suffix.len);
    return lb_arena_str(perm, (lb_str){text, len + suffix.len});
}

bool lb_arch_is_dropped(const lb_arch_tensor *row, lb_world world, const lb_hparams *hp) {
    if (row->role == LB_ROLE_DROPPED || lb_arch_row_name(row, world).len == 0)
        return true;
    u32 flag = world == LB_WORLD_MLX    ? LB_ROW_MLX_DROP_TIED
               : world == LB_WORLD_GGUF ? LB_ROW_GGUF_DROP_TIED
                                        : 0;
    return hp->tied && (row->flags & flag);
}

bool lb_arch_is_left_out(const lb_arch_match *m, lb_world world, const lb_hparams *hp) {
    bool shared = (m->row->flags & LB_ROW_OWN_KV) && m->layer != LB_NO_INDEX &&
                  hp->n_layers - LB_MIN(hp->n_layers, hp->n_kv_shared) <= m->layer;
    return (world == LB_WORLD_MLX && shared) || lb_arch_is_dropped(m->row, world, hp);
}

/* conversion/base.py, prepare_tensors: what has at most one dimension, norms by their names, rows
 * of the list, and all whose names end neither in .weight nor in a LoRA suffix. */
bool lb_arch_gguf_is_f32(const lb_arch_tensor *row, u8 suffix, u32 rank) {
    bool weight = suffix == LB_SUFFIX_WEIGHT ||
                  (suffix == LB_SUFFIX_NONE && lb_str_ends(row->gguf, LB_STR(".weight")));
    lb_str stem = row->gguf;
    if (suffix == LB_SUFFIX_NONE && weight)
        stem.len -= 7;
    return rank <= 1 || !weight || lb_str_ends(stem, LB_STR("_norm")) ||
           (row->flags & LB_ROW_GGUF_F32);
}

u64 lb_arch_relayout_heads(lb_relayout r, const lb_hparams *hp) {
    return r == LB_RL_ROPE_Q ? hp->n_head : r == LB_RL_ROPE_K ? hp->n_head_kv : 0;
}

void lb_arch_seen_add(lb_arch_seen *seen, const lb_arch_match *m, const lb_shape *shape) {
    seen->in_extra[m->extra]++;
    if (m->mtp != LB_NO_INDEX)
        seen->n_mtp = LB_MAX(seen->n_mtp, (u64)m->mtp + 1);
    if (m->extra != LB_EXTRA_NONE)
        return;
    for (u32 i = 0; i < m->n_rows; i++) {
        lb_role role = m->row[i].role;
        seen->suffixes[role] |= m->suffix;
        if (m->suffix != LB_SUFFIX_BIAS)
            seen->count[role]++;
        if (m->suffix != LB_SUFFIX_BIAS && (m->row[i].flags & LB_ROW_STACK) &&
            m->expert == LB_NO_INDEX)
            seen->stacks[role]++;
        if (role == LB_ROLE_TOKEN_EMBD && shape->rank)
            seen->vocab_rows = shape->dim[0];
        if (role == LB_ROLE_LAYER_EMBD && shape->rank)
            seen->layer_vocab_rows = shape->dim[0];
    }
}

lb_status lb_arch_seen_check(const lb_arch *a, const lb_hparams *hp, const lb_arch_seen *seen,
                             lb_world world, lb_err *err) {
    for (u32 i = 0; i < a->n_rows; i++) {
        const lb_arch_tensor *row = &a->rows[i];
        lb_str name = lb_arch_row_name(row, world);
        if ((row->flags & LB_ROW_OPTIONAL) || name.len == 0)
            continue;
        u64 want = has_hole(name, "{b}") ? hp->n_layers : 1, have = seen->count[row->role];
        if (row->flags & LB_ROW_RECURRENT)
            want = hp->n_recurrent;
        if (row->flags & LB_ROW_ATTENTION)
            want -= hp->n_recurrent;
        u64 per_layer = has_hole(name, "{e}") ? lb_arch_n_stack(row, hp) : 1;
        if (row->flags & LB_ROW_OWN_KV)
            want -= LB_MIN(want, hp->n_kv_shared);
        if ((row->flags & LB_ROW_EXPERT) || row->role == LB_ROLE_FFN_ROUTER ||
            row->role == LB_ROLE_FFN_ROUTER_BIAS)
            want -= LB_MIN(want, seen->count[LB_ROLE_FFN_DOWN]);
        if (row->instead)
            want -= LB_MIN(want, seen->count[row->instead]);
        if (!lb_mul_u64(want, per_layer, &want) ||
            !lb_mul_u64(seen->stacks[row->role], per_layer, &per_layer))
            want = UINT64_MAX;
        else
            have += per_layer - seen->stacks[row->role];
        if (have < want)
            return lb_fail(err, LB_E_FORMAT,
                           "the model is incomplete: %llu of %llu tensors '%.*s%s' are there",
                           (unsigned long long)have, (unsigned long long)want, LB_FMT(name),
                           row->suffixes & LB_SUFFIX_NONE ? "" : ".weight");
    }
    if (hp->n_mtp && seen->n_mtp > hp->n_mtp)
        return lb_fail(err, LB_E_FORMAT,
                       "the model has %llu layers of multi-token prediction, the config says %llu",
                       (unsigned long long)seen->n_mtp, (unsigned long long)hp->n_mtp);
    if (!hp->tied && !hp->headless && seen->count[LB_ROLE_OUTPUT] == 0)
        return lb_fail(err, LB_E_FORMAT,
                       "the model is incomplete: its embeddings are not tied, but it has no output "
                       "matrix (lm_head.weight)");
    return LB_OK;
}
