/* SPDX-License-Identifier: Apache-2.0 */
/* extras.c: parts that a model works without: which world has a place for them, and the config.json
 * and the metadata of the same model without one. Which tensors are of a part: names.c. */
#include "arch/arch_internal.h"
#include <stdio.h>

static const struct {
    const char *name, *flag;
} extras[LB_EXTRA_COUNT] = {
    [LB_EXTRA_NONE] = {"", ""},
    [LB_EXTRA_VISION] = {"vision", "--vision"},
    [LB_EXTRA_AUDIO] = {"audio", "--vision"},
    [LB_EXTRA_MTP] = {"multi-token prediction", "--mtp"},
};

const char *lb_extra_name(lb_extra e) {
    return extras[e].name;
}

const char *lb_extra_flag(lb_extra e) {
    return extras[e].flag;
}

bool lb_extra_is_beside(lb_extra e) {
    return e != LB_EXTRA_NONE && e != LB_EXTRA_MTP;
}

/* mlx-lm takes the parts beside the language model out; where a folder has them, other programs put
 * them there in layouts of their own, which only another MLX folder keeps. */
bool lb_arch_holds_extra(const lb_arch *a, lb_extra e, lb_world from, lb_world to) {
    if (lb_extra_is_beside(e))
        return from == to && to != LB_WORLD_GGUF;
    return to != LB_WORLD_GGUF || from == to || (a && lb_arch_mtp_kv(a));
}

/* mlx-lm's classes drop layers of multi-token prediction when they load a model. */
bool lb_arch_keeps_extra(const lb_arch *a, lb_extra e, lb_world from, lb_world to) {
    return lb_arch_holds_extra(a, e, from, to) &&
           (e != LB_EXTRA_MTP || to != LB_WORLD_MLX || from == to);
}

typedef struct edit {
    lb_str key, value; /* JSON */
} edit;

/* What the config says of a model without the part; false: nothing. */
static bool config_edit(const lb_arch *a, lb_extra extra, edit *out) {
    for (u32 i = 0; i < a->n_kv && extra == LB_EXTRA_MTP; i++)
        if (a->kv[i].op == LB_KV_MTP && a->kv[i].hf) {
            *out = (edit){lb_str_c(a->kv[i].hf), LB_STR("0")};
            return true;
        }
    return false;
}

static void put(lb_buf *out, lb_str s, size_t from, size_t to) {
    lb_buf_put(out, s.ptr + from, to - from);
}

/* White space before the last member, which a new one takes over. */
static lb_str space_before(lb_str s, size_t key) {
    size_t from = key;
    while (from > 0 && strchr(" \t\r\n", s.ptr[from - 1]) && s.ptr[from - 1])
        from--;
    return lb_str_sub(s, from, key);
}

/* Of an object's text. Every key of that name gets the value, for readers differ on which one
 * counts; where there is none, it comes last: the class's default may be another. With `inside` the
 * member of that name is edited instead. */
static lb_status edit_object(lb_str text, lb_str inside, const edit *e, lb_buf *out, lb_err *err) {
    lb_json_reader r;
    lb_json_tok tok;
    size_t done = 0, end, last = 0;
    bool found = false;
    lb_json_begin(&r, text);
    LB_TRY(lb_json_next(&r, &tok, err));
    if (tok != LB_JSON_OBJECT)
        return lb_fail(err, LB_E_FORMAT, "config.json: not an object");
    for (end = r.pos;; end = r.pos) {
        LB_TRY(lb_json_next(&r, &tok, err));
        if (tok == LB_JSON_OBJECT_END)
            break;
        lb_str key = r.raw;
        last = (size_t)(key.ptr - text.ptr) - 1;
        size_t value = r.pos;
        while (value < text.len && strchr(" \t\r\n", text.ptr[value]) && text.ptr[value])
            value++;
        LB_TRY(lb_json_skip(&r, err));
        if (!lb_str_eq(key, inside.len ? inside : e->key))
            continue;
        put(out, text, done, value);
        if (inside.len)
            LB_TRY(edit_object(lb_str_sub(text, value, r.pos), LB_STR(""), e, out, err));
        else
            lb_buf_put_str(out, e->value);
        done = r.pos;
        found = true;
    }
    put(out, text, done, end);
    if (!found && !inside.len)
        lb_buf_printf(out, "%s%.*s\"%.*s\": %.*s", last ? "," : "",
                      LB_FMT(last ? space_before(text, last) : LB_STR("")), LB_FMT(e->key),
                      LB_FMT(e->value));
    put(out, text, end, text.len);
    LB_TRY(lb_json_next(&r, &tok, err)); /* nothing may follow */
    return lb_buf_status(out, err);
}

lb_status lb_arch_config_without(const lb_arch *a, lb_extra extra, lb_str config, lb_buf *out,
                                 lb_err *err) {
    lb_arena s = {.max_bytes = 64 * LB_MIB};
    lb_json *c = NULL;
    edit e;
    lb_status st = lb_json_parse(config, "config.json", &s, &c, err);
    if (st == LB_OK && config_edit(a, extra, &e)) {
        const lb_arch_outer *o = lb_arch_outer_of(c, NULL);
        bool nested = o && lb_arch_outer_text(o, c);
        st = edit_object(config, nested ? lb_str_c(o->key) : LB_STR(""), &e, out, err);
    } else if (st == LB_OK) {
        lb_buf_put_str(out, config);
        st = lb_buf_status(out, err);
    }
    lb_arena_deinit(&s);
    return st;
}

/* The config that a GGUF of ours keeps. */
static lb_status edit_kept_config(const lb_arch *a, lb_extra extra, lb_gguf_meta *meta,
                                  lb_err *err) {
    lb_str text;
    lb_buf b = {0};
    if (!lb_kv_as_str(lb_meta_find(meta, LB_KEY_HF_CONFIG), &text))
        return LB_OK;
    lb_status st = lb_arch_config_without(a, extra, text, &b, err);
    if (st == LB_OK)
        st = lb_meta_set_str(meta, LB_KEY_HF_CONFIG, lb_buf_str(&b), err);
    else
        lb_err_context(err, "GGUF metadata '%s'", LB_KEY_HF_CONFIG);
    lb_buf_deinit(&b);
    return st;
}

/* Lists with a value a layer. */
static void cut_lists(const lb_arch *a, lb_gguf_meta *meta, u64 n_blocks, u64 n_left) {
    lb_str arch = lb_str_c(a->gguf);
    for (u64 i = 0; i < meta->n; i++) {
        lb_gguf_kv *kv = &meta->kv[i];
        if (kv->type == LB_GGUF_ARRAY && kv->elem != LB_GGUF_STR && kv->n == n_blocks &&
            kv->key.len > arch.len && lb_str_starts(kv->key, arch) && kv->key.ptr[arch.len] == '.')
            kv->n = n_left;
    }
}

static lb_status without_mtp(const lb_arch *a, lb_gguf_meta *meta, lb_err *err) {
    const lb_arch_kv *row = lb_arch_mtp_kv(a);
    char key[128];
    u64 n_blocks = 0, n_mtp = 0;
    if (!row || !lb_kv_as_u64(lb_meta_find_arch(meta, lb_str_c(a->gguf), row->key), &n_mtp))
        return LB_OK;
    lb_kv_as_u64(lb_meta_find_arch(meta, lb_str_c(a->gguf), "block_count"), &n_blocks);
    if (n_mtp >= n_blocks || n_blocks > UINT32_MAX)
        return lb_fail(err, LB_E_FORMAT,
                       "GGUF metadata: %llu of %llu layers are of multi-token prediction",
                       (unsigned long long)n_mtp, (unsigned long long)n_blocks);
    cut_lists(a, meta, n_blocks, n_blocks - n_mtp);
    snprintf(key, sizeof key, "%s.block_count", a->gguf);
    LB_TRY(lb_meta_set_u32(meta, key, (u32)(n_blocks - n_mtp), err));
    snprintf(key, sizeof key, "%s.%s", a->gguf, row->key);
    lb_meta_remove(meta, key);
    return LB_OK;
}

lb_status lb_arch_meta_without(const lb_arch *a, lb_extra extra, lb_gguf_meta *meta, lb_err *err) {
    bool kept = lb_arch_config_kept(meta);
    if (extra == LB_EXTRA_MTP)
        LB_TRY(without_mtp(a, meta, err));
    if (!kept)
        return LB_OK;
    LB_TRY(edit_kept_config(a, extra, meta, err));
    return lb_arch_config_seal(meta, err);
}
