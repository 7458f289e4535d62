/* SPDX-License-Identifier: Apache-2.0 */
/* tok_keep.c: writing lbrx.hf.*: as little as lets the files come back byte by byte.
 *
 * Everything is tried before it is trusted: the vocabulary is rebuilt from the GGUF's arrays and
 * what differs is noted, merges are rebuilt and compared, and the whole text is compared with the
 * file. A tokenizer.json that would need too many notes is kept whole (tokenizer.huggingface.json,
 * the key that the GGUF specification has for it). */
#include "text/tokdata.h"

#include "text/tok_job.h"
#include "text/tok_restore.h"

#define SMALL_FILE_MAX ((u64)16 << 20)
/* Notes beyond this part of the vocabulary: the file is kept whole. */
#define TEXTS_PART 8

typedef struct keeper {
    lb_tok_folder *f;
    lb_tok_arrays a;
    const lb_gguf_meta *meta; /* tokenizer.* */
    lb_gguf_meta *out;
    lb_json *form;
} keeper;

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer: out of memory");
}

static lb_status put(keeper *k, const char *key, lb_json *v, lb_err *err) {
    return lb_json_set(&k->f->arena, k->form, key, v) ? LB_OK : no_memory(err);
}

static void append(lb_json *object, lb_json *member) {
    if (object->last)
        object->last->next = member;
    else
        object->first = member;
    object->last = member;
    object->n++;
}

/* Ids that the vocabulary lacks and the arrays have, as ranges [from, to]; they come in runs. */
typedef struct holes {
    lb_json *list, *range;
    u64 last;
} holes;

static lb_status add_hole(keeper *k, holes *h, u64 i, lb_err *err) {
    lb_arena *p = &k->f->arena;
    lb_json *to = lb_json_new_u64(p, i);
    if (!to)
        return no_memory(err);
    if (h->range && h->last + 1 == i) {
        h->range->first->next = to;
        h->range->last = to;
    } else {
        h->range = lb_json_new_array(p);
        if (!h->range || !lb_json_push(h->range, lb_json_new_u64(p, i)) ||
            !lb_json_push(h->range, to) || !lb_json_push(h->list, h->range))
            return no_memory(err);
    }
    h->last = i;
    return LB_OK;
}

static lb_status add_text(keeper *k, lb_json *texts, u64 i, lb_str text, lb_err *err) {
    lb_arena *p = &k->f->arena;
    lb_json *v = lb_json_new_str(p, text);
    if (!v)
        return no_memory(err);
    v->key = lb_arena_printf(p, "%llu", (unsigned long long)i);
    if (!v->key.ptr)
        return no_memory(err);
    append(texts, v);
    return LB_OK;
}

/* What the arrays tell, compared with what the file has: notes for the differences. */
static lb_status compare_vocab(keeper *k, const lb_texts *guess, lb_json *texts, holes *h,
                               bool *whole, lb_err *err) {
    const lb_hf_tok *t = &k->f->tok;
    for (u64 i = 0; i < t->n_ids && !*whole; i++) {
        lb_str have = lb_texts_get(&t->token, i), want = lb_texts_get(guess, i);
        if ((!have.ptr && !want.ptr) || (have.ptr && want.ptr && lb_str_eq(have, want)))
            continue;
        if (!have.ptr) {
            LB_TRY(add_hole(k, h, i, err));
            continue;
        }
        LB_TRY(add_text(k, texts, i, have, err));
        *whole = texts->n > t->n_ids / TEXTS_PART + 64 || t->n_ids > k->a.n + LB_TOK_IDS_BEYOND;
    }
    return LB_OK;
}

static lb_status keep_vocab(keeper *k, bool *whole, lb_err *err) {
    const lb_hf_tok *t = &k->f->tok;
    lb_arena *p = &k->f->arena;
    lb_texts guess = {0};
    lb_json *texts = lb_json_new_object(p);
    holes h = {.list = lb_json_new_array(p)};
    if (!texts || !h.list)
        return no_memory(err);
    lb_status st =
        lb_tok_guess_vocab(&k->a, lb_json_get(t->rest, "added_tokens"), t->n_ids, &guess, err);
    if (st == LB_OK)
        st = compare_vocab(k, &guess, texts, &h, whole, err);
    lb_texts_deinit(&guess);
    LB_TRY(st);
    LB_TRY(put(k, "n_ids", lb_json_new_u64(p, t->n_ids), err));
    LB_TRY(put(k, "outside", h.list, err));
    return put(k, "texts", texts, err);
}

static bool same_as_gguf(const keeper *k) {
    const lb_hf_tok *t = &k->f->tok;
    lb_tok_iter it;
    lb_hf_merges m = lb_tok_merges(&it, &k->a);
    lb_str pair[2];
    bool more;
    for (u64 i = 0;; i++) {
        (void)m.next(m.ctx, pair, &more, NULL);
        if (!more || i == t->n_merges)
            return !more && i == t->n_merges;
        if (!lb_str_eq(pair[0], lb_hf_tok_part(t, i, 0)) ||
            !lb_str_eq(pair[1], lb_hf_tok_part(t, i, 1)))
            return false;
    }
}

/* Whether the merges are those that the scores give. */
static lb_status same_as_made(const keeper *k, bool by_length, bool *same, lb_err *err) {
    const lb_hf_tok *t = &k->f->tok;
    lb_tok_pieces pieces = {&t->token, &t->id_of, k->a.type, k->a.score, k->a.n};
    lb_tok_cuts cuts;
    u32 pair[2];
    bool more = true;
    u64 n = 0;
    lb_status st = lb_tok_cuts_begin(&cuts, &pieces, by_length, err);
    for (*same = true; st == LB_OK && *same; n++) {
        st = lb_tok_cuts_next(&cuts, pair, &more, err);
        if (!more)
            break;
        *same = n < t->n_merges && memcmp(pair, &t->merge[2 * n], sizeof pair) == 0;
    }
    *same = *same && n == t->n_merges;
    lb_tok_cuts_end(&cuts);
    return st;
}

static lb_status store_merges(keeper *k, lb_err *err) {
    const lb_hf_tok *t = &k->f->tok;
    lb_texts all = {0};
    lb_status st = lb_texts_reserve(&all, 2 * t->n_merges, 0, err);
    for (u64 i = 0; i < 2 * t->n_merges && st == LB_OK; i++)
        st = lb_texts_add(&all, lb_hf_tok_part(t, i / 2, i % 2), err);
    if (st == LB_OK)
        return lb_meta_set_texts(k->out, "lbrx.hf.tokenizer_merges", &all, err);
    lb_texts_deinit(&all);
    return st;
}

static lb_status keep_merges(keeper *k, lb_err *err) {
    const char *how = NULL;
    if (k->f->tok.n_merges == 0)
        how = "none";
    else if (same_as_gguf(k))
        how = "gguf";
    bool prefix = true; /* gemma's files have no prefix, and their order is tried first */
    (void)lb_kv_as_bool(lb_meta_find(k->meta, "tokenizer.ggml.add_space_prefix"), &prefix);
    for (u32 i = 0; !how && k->a.has_scores && i < 2; i++) {
        bool by_length = (i == 0) == !prefix, same;
        LB_TRY(same_as_made(k, by_length, &same, err));
        if (same)
            how = by_length ? "lengths" : "scores";
    }
    if (!how) {
        LB_TRY(store_merges(k, err));
        how = "stored";
    }
    return put(k, "merges", lb_json_new_str(&k->f->arena, lb_str_c(how)), err);
}

/* ---- comparing a made file with the one that is there ---- */

typedef struct comparer {
    lb_cur c;
    lb_buf have;
    bool same;
} comparer;

static lb_status compare(void *ctx, lb_str part, lb_err *err) {
    comparer *c = ctx;
    c->same = part.len <= lb_cur_left(&c->c);
    lb_buf_reset(&c->have);
    if (!c->same || !lb_buf_reserve(&c->have, part.len))
        return lb_fail(err, LB_E_NOMEM, "another text");
    LB_TRY(lb_cur_bytes(&c->c, c->have.ptr, part.len, "tokenizer.json", err));
    c->same = memcmp(c->have.ptr, part.ptr, part.len) == 0;
    return c->same ? LB_OK : lb_fail(err, LB_E_FORMAT, "another text");
}

static lb_status makes_same(const keeper *k, bool ascii, bool *same, lb_err *err) {
    const lb_hf_tok *t = &k->f->tok;
    const lb_side_file *side = lb_source_side(k->f->src, LB_STR("tokenizer.json"));
    lb_hf_tok_iter it;
    lb_hf_parts p = {.skeleton = t->skeleton,
                     .ascii = ascii,
                     .token = &t->token,
                     .merges = lb_hf_tok_merges(&it, t)};
    comparer c = {.same = true};
    lb_out out = {.put = compare, .ctx = &c};
    LB_TRY(lb_side_open(&c.c, side, err));
    lb_status st = lb_hf_write(&p, &out, err);
    bool done = lb_out_end(&out, NULL) == LB_OK; /* one that failed differs, or could not be read */
    *same = done && c.same && lb_cur_left(&c.c) == 0;
    lb_buf_deinit(&c.have);
    lb_cur_close(&c.c);
    return st;
}

/* Whether characters beyond ASCII are written as escapes: by trying. */
static lb_status keep_escapes(keeper *k, lb_err *err) {
    bool same = false, ascii = false;
    for (u32 i = 0; i < 2 && !same; i++) {
        LB_TRY(makes_same(k, i == 1, &same, err));
        ascii = same && i == 1;
    }
    return put(k, "ascii", lb_json_new_bool(&k->f->arena, ascii), err);
}

/* A file that cannot be told by less. */
static lb_status keep_whole(keeper *k, lb_err *err) {
    lb_gguf_kv kv = {.key = LB_STR("tokenizer.huggingface.json"), .type = LB_GGUF_STR};
    bool found;
    LB_TRY(lb_tok_folder_read_to(k->f, "tokenizer.json", k->out->arena, &kv.v.s, &found, err));
    return lb_meta_share(k->out, &kv, err);
}

static lb_status keep_tokenizer(keeper *k, lb_err *err) {
    bool whole;
    lb_buf form = {0};
    LB_TRY(lb_tok_folder_tokenizer(k->f, true, err));
    k->form = lb_json_new_object(&k->f->arena);
    whole = k->f->tok.kind != LB_HF_BPE || !k->form;
    if (!whole)
        LB_TRY(keep_vocab(k, &whole, err));
    if (whole)
        return keep_whole(k, err);
    LB_TRY(keep_merges(k, err));
    LB_TRY(keep_escapes(k, err));
    LB_TRY(lb_meta_set_str(k->out, "lbrx.hf.tokenizer", k->f->tok.skeleton, err));
    lb_json_write(&form, k->form, (lb_json_style){.compact = true});
    lb_status st = lb_buf_status(&form, err);
    if (st == LB_OK)
        st = lb_meta_set_str(k->out, "lbrx.hf.tokenizer_form", lb_buf_str(&form), err);
    lb_buf_deinit(&form);
    return st;
}

static lb_status keep_model(keeper *k, lb_err *err) {
    lb_arena scratch = {0};
    lb_str bytes;
    bool found;
    lb_buf patch = {0};
    lb_status st = lb_tok_folder_read_to(k->f, "tokenizer.model", &scratch, &bytes, &found, err);
    if (st == LB_OK && found)
        st = lb_spm_patch_make(&k->a, bytes, &patch, err);
    lb_arena_deinit(&scratch);
    if (st == LB_OK && patch.len)
        st = lb_meta_set_array(k->out, "lbrx.hf.tokenizer_model", LB_GGUF_U8, patch.len, patch.ptr,
                               err);
    lb_buf_deinit(&patch);
    return st;
}

static lb_status keep_small(keeper *k, lb_err *err) {
    const char *name, *key;
    for (u32 i = 0; lb_tok_small_file(i, &name, &key); i++) {
        lb_str text;
        bool found;
        const lb_side_file *side = lb_source_side(k->f->src, lb_str_c(name));
        if (!side || side->size_bytes > SMALL_FILE_MAX)
            continue;
        LB_TRY(lb_tok_folder_read(k->f, name, &text, &found, err));
        lb_str same;
        bool told = lb_kv_as_str(lb_meta_find(k->meta, "tokenizer.chat_template"), &same) &&
                    lb_str_eq(same, text) && !lb_json_get(k->f->tok_config, "chat_template");
        if (found && lb_str_is_utf8(text) &&
            !(told && lb_str_eq_c(lb_str_c(name), "chat_template.jinja")))
            LB_TRY(lb_meta_set_str(k->out, key, text, err));
    }
    return LB_OK;
}

/* The named templates, [name, text, ...]: where their keys would not give them back, name and all.
 */
static lb_status keep_templates(keeper *k, lb_err *err) {
    static const lb_str dir = {LB_CHAT_TEMPLATES_DIR "/", sizeof LB_CHAT_TEMPLATES_DIR},
                        suffix = {".jinja", 6};
    const lb_source *src = k->f->src;
    lb_str *list = lb_arena_new(&k->f->arena, lb_str, 2 * src->n_sides), told;
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
        LB_TRY(lb_tok_folder_read(k->f, side->name.ptr, &text, &found, err));
        lb_str name = lb_str_sub(side->name, dir.len, side->name.len - suffix.len);
        lb_str key = lb_arena_printf(&k->f->arena, "tokenizer.chat_template.%.*s", LB_FMT(name));
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
               : lb_meta_set_array(k->out, "lbrx.hf.chat_templates", LB_GGUF_STR, n, list, err);
}

static lb_status keep_all(keeper *k, lb_err *err) {
    char sum[33];
    /* vocab.json and merges.txt: a tokenizer.json is rebuilt, with what belongs to it */
    if (!lb_tok_is_spm(&k->a) && !lb_tok_folder_has(k->f, "tokenizer.json"))
        return LB_OK;
    LB_TRY(keep_small(k, err));
    LB_TRY(keep_templates(k, err));
    if (lb_tok_folder_has(k->f, "tokenizer.json"))
        LB_TRY(keep_tokenizer(k, err));
    if (lb_tok_is_spm(&k->a) && !k->a.flat_scores)
        LB_TRY(keep_model(k, err));
    lb_tok_template_sum(k->meta, k->out == k->meta ? NULL : k->out, sum);
    LB_TRY(lb_meta_set_str(k->out, "lbrx.hf.template_sum", lb_str_c(sum), err));
    lb_tok_sum(k->meta, k->out == k->meta ? NULL : k->out, sum);
    return lb_meta_set_str(k->out, "lbrx.hf.tokenizer_sum", lb_str_c(sum), err);
}

lb_status lb_tok_keep(lb_tok *t, const lb_gguf_meta *meta, lb_gguf_meta *out, lb_err *err) {
    keeper k = {.f = &t->f, .meta = meta, .out = out};
    lb_arena scratch = {0};
    lb_status st = lb_tok_arrays_read(&k.a, meta, &scratch, err);
    if (st == LB_OK)
        st = keep_all(&k, err);
    lb_tok_arrays_deinit(&k.a);
    lb_arena_deinit(&scratch);
    return st;
}
