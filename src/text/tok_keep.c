/* SPDX-License-Identifier: Apache-2.0 */
/* tok_keep.c: writing lbrx.hf.*: as little as lets the files come back byte by byte.
 *
 * Everything is tried before it is trusted: the vocabulary is rebuilt from the GGUF's arrays and
 * what differs is noted, merges are rebuilt and compared, and the whole text is compared with the
 * file. A tokenizer.json that would need too many notes is kept whole (tokenizer.huggingface.json,
 * the key that the GGUF specification has for it). */
#include "text/tokdata.h"

#include "text/tok_folder.h"
#include "text/tok_restore.h"

#define SMALL_FILE_MAX ((u64)16 << 20)
/* Notes beyond this part of the vocabulary: the file is kept whole. */
#define TEXTS_PART 8

typedef struct keeper {
    lb_tok_folder f;
    lb_tok_arrays a;
    lb_gguf_meta *meta;
    lb_json *form;
    lb_hf_parts parts;
} keeper;

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer: out of memory");
}

static lb_status put(keeper *k, const char *key, lb_json *v, lb_err *err) {
    return lb_json_set(&k->f.arena, k->form, key, v) ? LB_OK : no_memory(err);
}

static void append(lb_json *object, lb_json *member) {
    if (object->last)
        object->last->next = member;
    else
        object->first = member;
    object->last = member;
    object->n++;
}

/* What the arrays tell, compared with what the file has: notes for the differences. */
static lb_status keep_vocab(keeper *k, bool *whole, lb_err *err) {
    const lb_hf_tok *t = &k->f.tok;
    lb_arena *p = &k->f.arena;
    lb_str *guess;
    lb_json *texts = lb_json_new_object(p), *outside = lb_json_new_array(p), *range = NULL;
    u64 last = UINT64_MAX;
    LB_TRY(lb_tok_guess_vocab(&k->a, lb_json_get(t->rest, "added_tokens"), t->n_ids, &guess, err));
    if (!texts || !outside)
        return no_memory(err);
    for (u64 i = 0; i < t->n_ids && !*whole; i++) {
        lb_str have = t->token[i], want = guess[i];
        if (have.ptr && want.ptr && lb_str_eq(have, want))
            continue;
        if (!have.ptr && !want.ptr)
            continue;
        if (!have.ptr) { /* a hole; they come in runs */
            lb_json *to = lb_json_new_u64(p, i);
            if (range && last + 1 == i) {
                lb_json *from = range->first;
                if (!to)
                    return no_memory(err);
                from->next = to;
                range->last = to;
            } else {
                range = lb_json_new_array(p);
                if (!range || !lb_json_push(range, lb_json_new_u64(p, i)) ||
                    !lb_json_push(range, to) || !lb_json_push(outside, range))
                    return no_memory(err);
            }
            last = i;
            continue;
        }
        lb_json *v = lb_json_new_str(p, have);
        if (!v)
            return no_memory(err);
        v->key = lb_arena_printf(p, "%llu", (unsigned long long)i);
        if (!v->key.ptr)
            return no_memory(err);
        append(texts, v);
        *whole = texts->n > t->n_ids / TEXTS_PART + 64 || t->n_ids > k->a.n + LB_TOK_IDS_BEYOND;
    }
    LB_TRY(put(k, "n_ids", lb_json_new_u64(p, t->n_ids), err));
    LB_TRY(put(k, "outside", outside, err));
    return put(k, "texts", texts, err);
}

static bool same_merges(const lb_hf_tok *t, const lb_str *merge, u64 n) {
    if (n != t->n_merges)
        return false;
    for (u64 i = 0; i < 2 * n; i++)
        if (!lb_str_eq(merge[i], t->merge[i]))
            return false;
    return true;
}

static lb_status keep_merges(keeper *k, lb_err *err) {
    const lb_hf_tok *t = &k->f.tok;
    const char *how = NULL;
    if (t->n_merges == 0)
        how = "none";
    else if (same_merges(t, k->a.merge, k->a.n_merges))
        how = "gguf";
    bool prefix = true; /* gemma's files have no prefix, and their order is tried first */
    (void)lb_kv_as_bool(lb_meta_find(k->meta, "tokenizer.ggml.add_space_prefix"), &prefix);
    for (u32 i = 0; !how && k->a.has_scores && i < 2; i++) {
        bool by_length = (i == 0) == !prefix;
        lb_str *merge;
        u64 n;
        LB_TRY(lb_tok_made_merges(&k->a, t->token, t->n_ids, by_length, &merge, &n, err));
        if (same_merges(t, merge, n))
            how = by_length ? "lengths" : "scores";
    }
    if (!how) {
        LB_TRY(lb_meta_set_array(k->meta, "lbrx.hf.tokenizer_merges", LB_GGUF_STR, 2 * t->n_merges,
                                 t->merge, err));
        how = "stored";
    }
    return put(k, "merges", lb_json_new_str(&k->f.arena, lb_str_c(how)), err);
}

typedef struct comparer {
    lb_str text;
    size_t pos;
    bool same;
} comparer;

static bool compare(void *ctx, lb_str part) {
    comparer *c = ctx;
    c->same = lb_str_eq(part, lb_str_sub(c->text, c->pos, c->pos + part.len));
    c->pos += part.len;
    return c->same;
}

/* Whether characters beyond ASCII are written as escapes: by trying. */
static lb_status keep_escapes(keeper *k, lb_str skeleton, lb_err *err) {
    const lb_hf_tok *t = &k->f.tok;
    bool ascii = false;
    for (u32 i = 0; i < 2; i++) {
        lb_hf_parts p = {skeleton, i == 1, t->token, t->n_ids, t->merge, t->n_merges};
        comparer c = {.text = k->f.tokenizer_text, .same = true};
        lb_hf_sink sink = {compare, &c};
        LB_TRY(lb_hf_write(&p, &sink, err));
        if (c.same && c.pos == c.text.len) {
            ascii = i == 1;
            break;
        }
    }
    return put(k, "ascii", lb_json_new_bool(&k->f.arena, ascii), err);
}

static lb_status keep_tokenizer(keeper *k, lb_err *err) {
    lb_str skeleton;
    bool whole;
    lb_buf form = {0};
    LB_TRY(lb_tok_folder_tokenizer(&k->f, true, err));
    k->form = lb_json_new_object(&k->f.arena);
    whole = k->f.tok.kind != LB_HF_BPE || !k->form;
    if (!whole)
        LB_TRY(keep_vocab(k, &whole, err));
    if (whole)
        return lb_meta_set_str(k->meta, "tokenizer.huggingface.json", k->f.tokenizer_text, err);
    LB_TRY(lb_hf_skeleton(&k->f.tok, k->f.tokenizer_text, &k->f.arena, &skeleton, err));
    LB_TRY(keep_merges(k, err));
    LB_TRY(keep_escapes(k, skeleton, err));
    LB_TRY(lb_meta_set_str(k->meta, "lbrx.hf.tokenizer", skeleton, err));
    lb_json_write(&form, k->form, (lb_json_style){.compact = true});
    lb_status st = lb_buf_status(&form, err);
    if (st == LB_OK)
        st = lb_meta_set_str(k->meta, "lbrx.hf.tokenizer_form", lb_buf_str(&form), err);
    lb_buf_deinit(&form);
    return st;
}

static lb_status keep_model(keeper *k, lb_err *err) {
    lb_str bytes;
    bool found;
    lb_buf patch = {0};
    LB_TRY(lb_tok_folder_read(&k->f, "tokenizer.model", &bytes, &found, err));
    lb_status st = found ? lb_spm_patch_make(&k->a, bytes, &patch, err) : LB_OK;
    if (st == LB_OK && patch.len)
        st = lb_meta_set_array(k->meta, "lbrx.hf.tokenizer_model", LB_GGUF_U8, patch.len, patch.ptr,
                               err);
    lb_buf_deinit(&patch);
    return st;
}

static lb_status keep_small(keeper *k, lb_err *err) {
    const char *name, *key;
    for (u32 i = 0; lb_tok_small_file(i, &name, &key); i++) {
        lb_str text;
        bool found;
        const lb_side_file *side = lb_source_side(k->f.src, lb_str_c(name));
        if (!side || side->size_bytes > SMALL_FILE_MAX)
            continue;
        LB_TRY(lb_tok_folder_read(&k->f, name, &text, &found, err));
        lb_str same;
        bool told = lb_kv_as_str(lb_meta_find(k->meta, "tokenizer.chat_template"), &same) &&
                    lb_str_eq(same, text) && !lb_json_get(k->f.tok_config, "chat_template");
        if (found && text.len && lb_str_is_utf8(text) &&
            !(told && lb_str_eq_c(lb_str_c(name), "chat_template.jinja")))
            LB_TRY(lb_meta_set_str(k->meta, key, text, err));
    }
    return LB_OK;
}

/* The named templates, [name, text, ...]: where their keys would not give them back, name and all.
 */
static lb_status keep_templates(keeper *k, lb_err *err) {
    static const lb_str dir = {LB_CHAT_TEMPLATES_DIR "/", sizeof LB_CHAT_TEMPLATES_DIR},
                        suffix = {".jinja", 6};
    const lb_source *src = k->f.src;
    lb_str *list = lb_arena_new(&k->f.arena, lb_str, 2 * src->n_sides), told;
    u64 n = 0;
    bool all_told = true;
    if (!list && src->n_sides)
        return no_memory(err);
    for (u64 i = 0; i < src->n_sides; i++) {
        const lb_side_file *side = &src->sides[i];
        lb_str text;
        bool found;
        if (!lb_str_starts(side->name, dir) || side->size_bytes > SMALL_FILE_MAX)
            continue;
        LB_TRY(lb_tok_folder_read(&k->f, side->name.ptr, &text, &found, err));
        lb_str name = lb_str_sub(side->name, dir.len, side->name.len - suffix.len);
        lb_str key = lb_arena_printf(&k->f.arena, "tokenizer.chat_template.%.*s", LB_FMT(name));
        if (!key.ptr)
            return no_memory(err);
        if (!found || !lb_str_is_utf8(text) || !lb_str_is_utf8(name))
            continue;
        all_told &= lb_kv_as_str(lb_meta_find(k->meta, key.ptr), &told) && lb_str_eq(told, text);
        list[n++] = name;
        list[n++] = text;
    }
    return all_told
               ? LB_OK
               : lb_meta_set_array(k->meta, "lbrx.hf.chat_templates", LB_GGUF_STR, n, list, err);
}

lb_status lb_tok_keep_from_folder(const lb_source *src, lb_gguf_meta *meta, lb_err *err) {
    keeper k = {.meta = meta};
    char sum[33];
    LB_TRY(lb_tok_folder_open(&k.f, src, err));
    lb_status st = lb_tok_arrays_read(&k.a, meta, &k.f.arena, err);
    if (st != LB_OK)
        goto done;
    if (!lb_tok_is_spm(&k.a) && !lb_tok_folder_has(&k.f, "tokenizer.json"))
        goto done; /* vocab.json and merges.txt: a tokenizer.json is rebuilt, with what belongs to
                      it */
    LB_TRY_DONE(st, keep_small(&k, err));
    LB_TRY_DONE(st, keep_templates(&k, err));
    if (lb_tok_folder_has(&k.f, "tokenizer.json"))
        LB_TRY_DONE(st, keep_tokenizer(&k, err));
    if (lb_tok_is_spm(&k.a) && !k.a.flat_scores)
        LB_TRY_DONE(st, keep_model(&k, err));
    lb_tok_sum(meta, sum);
    st = lb_meta_set_str(meta, "lbrx.hf.tokenizer_sum", lb_str_c(sum), err);
done:
    lb_tok_arrays_deinit(&k.a);
    lb_tok_folder_close(&k.f);
    return st;
}
