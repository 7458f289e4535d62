/* SPDX-License-Identifier: Apache-2.0 */
/* tok_folder.c: reading the small files, and transformers' additions to the vocabulary. */
#include "text/tok_folder.h"

#include "base/os.h"
#include "text/hf_take.h"
#include "text/tok_rebuild.h"
#include <stdlib.h>

bool lb_tok_folder_has(const lb_tok_folder *f, const char *name) {
    return lb_source_side(f->src, lb_str_c(name)) != NULL;
}

lb_status lb_tok_folder_read_to(const lb_tok_folder *f, const char *name, lb_arena *arena,
                                lb_str *text, bool *found, lb_err *err) {
    const lb_side_file *side = lb_source_side(f->src, lb_str_c(name));
    *found = side != NULL;
    *text = LB_STR_NONE;
    return side ? lb_side_read(side, LB_TOK_FILE_MAX, arena, text, err) : LB_OK;
}

lb_status lb_tok_folder_read(lb_tok_folder *f, const char *name, lb_str *text, bool *found,
                             lb_err *err) {
    return lb_tok_folder_read_to(f, name, &f->arena, text, found, err);
}

lb_status lb_tok_folder_json(lb_tok_folder *f, const char *name, lb_json **out, lb_err *err) {
    lb_str text;
    bool found;
    *out = NULL;
    LB_TRY(lb_tok_folder_read(f, name, &text, &found, err));
    if (!found)
        return LB_OK;
    LB_TRY(lb_json_parse(text, name, &f->arena, out, err));
    return (*out)->type == LB_JOBJECT
               ? LB_OK
               : lb_fail(err, LB_E_FORMAT, "%s: an object ({...}) expected", name);
}

lb_status lb_tok_folder_open(lb_tok_folder *f, const lb_source *src, lb_err *err) {
    *f = (lb_tok_folder){.src = src};
    lb_status st = LB_OK;
    if (src->config.len)
        LB_TRY_DONE(st, lb_json_parse(src->config, "config.json", &f->arena, &f->config, err));
    st = lb_tok_folder_json(f, "tokenizer_config.json", &f->tok_config, err);
done:
    if (st != LB_OK)
        lb_tok_folder_close(f);
    return st;
}

void lb_tok_folder_close(lb_tok_folder *f) {
    if (f->has_tokenizer)
        lb_hf_tok_deinit(&f->tok);
    f->has_tokenizer = false;
    lb_arena_deinit(&f->arena);
}

static lb_status read_file(lb_tok_folder *f, const lb_side_file *side, const lb_hf_opts *o,
                           lb_err *err) {
    lb_cur c;
    LB_TRY(lb_side_open(&c, side, err));
    lb_status st =
        c.size_bytes <= LB_TOK_FILE_MAX
            ? lb_hf_tok_read(&f->tok, &c, o, &f->arena, err)
            : lb_fail(err, LB_E_LIMIT, "%s: %llu bytes: at most %llu are read", c.path,
                      (unsigned long long)c.size_bytes, (unsigned long long)LB_TOK_FILE_MAX);
    lb_cur_close(&c);
    return st;
}

static lb_status read_legacy(lb_tok_folder *f, const lb_hf_opts *o, lb_err *err) {
    lb_arena scratch = {0};
    lb_str text;
    lb_cur c;
    lb_status st = lb_tok_legacy_text(f, &scratch, &text, err);
    if (st == LB_OK) {
        lb_cur_mem(&c, o->what, text.ptr, text.len);
        st = lb_hf_tok_read(&f->tok, &c, o, &f->arena, err);
    }
    lb_arena_deinit(&scratch);
    return st;
}

lb_status lb_tok_folder_tokenizer(lb_tok_folder *f, bool arrays, lb_err *err) {
    const lb_side_file *side = lb_source_side(f->src, LB_STR("tokenizer.json"));
    lb_hf_opts o = {.what = side                     ? "tokenizer.json"
                            : lb_tok_has_tiktoken(f) ? "the file of tiktoken"
                                                     : "vocab.json and merges.txt",
                    .no_arrays = !arrays};
    if (f->has_tokenizer && (f->has_arrays || !arrays))
        return LB_OK;
    if (!side && !lb_tok_has_legacy(f))
        return lb_fail(err, LB_E_NOT_FOUND, "%s: no tokenizer.json", f->src->path);
    if (f->has_tokenizer)
        lb_hf_tok_deinit(&f->tok);
    f->has_tokenizer = false;
    f->made = !side;
    lb_status st = side ? read_file(f, side, &o, err) : read_legacy(f, &o, err);
    f->has_tokenizer = st == LB_OK;
    f->has_arrays = f->has_tokenizer && arrays;
    return st;
}

static lb_status take_parts(void *ctx, const lb_hf_parts *p, lb_err *err) {
    lb_tok_folder *f = ctx;
    lb_status st = lb_hf_tok_take(&f->tok, p, "tokenizer.json", &f->arena, err);
    f->has_tokenizer = f->has_arrays = st == LB_OK;
    return st;
}

lb_status lb_tok_folder_take(lb_tok_folder *f, const lb_gguf_meta *meta, lb_err *err) {
    LB_ASSERT(!f->has_tokenizer);
    return lb_tok_put_json(meta, take_parts, f, err);
}

/* ---- tokens that tokenizer_config.json adds ---- */

bool lb_tok_token_text(const lb_json *v, lb_str *out) {
    return lb_json_as_str(v, out) || lb_json_as_str(lb_json_get(v, "content"), out);
}

static bool flag(const lb_json *o, const char *key, bool otherwise) {
    (void)lb_json_as_bool(lb_json_get(o, key), &otherwise);
    return otherwise;
}

/* What the mention does to a token that tokenizer.json has among its added ones. */
typedef enum mention {
    MENTION_OLDER,    /* nothing */
    MENTION_LISTED,   /* nothing; a new one is special */
    MENTION_NAMED,    /* it is special */
    MENTION_DESCRIBED /* it has these settings */
} mention;

static lb_status add_token(lb_tok_folder *f, const lb_json *v, mention how, lb_err *err) {
    lb_hf_added a = {.file_id = UINT64_MAX}, *had;
    u64 known;
    if (!lb_tok_token_text(v, &a.content))
        return LB_OK;
    a.special = how == MENTION_LISTED || how == MENTION_NAMED || flag(v, "special", false);
    a.normalized = flag(v, "normalized", !a.special);
    a.single_word = flag(v, "single_word", false);
    a.lstrip = flag(v, "lstrip", false);
    a.rstrip = flag(v, "rstrip", false);
    if (lb_map_find(&f->tok.added_of, a.content, &known)) {
        had = &f->tok.added[known];
        if (how == MENTION_NAMED)
            had->special = true;
        if (how == MENTION_DESCRIBED && v->type == LB_JOBJECT) {
            had->special = a.special;
            had->normalized = a.normalized;
            had->single_word = a.single_word;
            had->lstrip = a.lstrip;
            had->rstrip = a.rstrip;
        }
        return LB_OK;
    }
    return lb_hf_tok_add(&f->tok, &a, &f->arena, err);
}

typedef struct numbered {
    u64 id;
    const lb_json *token;
} numbered;

static int compare_numbers(const void *a, const void *b) {
    const numbered *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* added_tokens_decoder: {"id": token}, in the order of the numbers. */
static lb_status add_decoder(lb_tok_folder *f, const lb_json *decoder, lb_err *err) {
    if (!decoder || decoder->type != LB_JOBJECT || decoder->n == 0)
        return LB_OK;
    numbered *v = lb_arena_new(&f->arena, numbered, decoder->n);
    if (!v)
        return lb_fail(err, LB_E_NOMEM, "tokenizer_config.json: out of memory");
    u64 n = 0;
    for (const lb_json *o = decoder->first; o; o = o->next) {
        if (!lb_str_to_u64(o->key, &v[n].id))
            return lb_fail(err, LB_E_FORMAT,
                           "tokenizer_config.json: added_tokens_decoder: \"%.*s\" is no id",
                           LB_FMT(o->key));
        v[n++].token = o;
    }
    qsort(v, (size_t)n, sizeof *v, compare_numbers);
    for (u64 i = 0; i < n; i++)
        LB_TRY(add_token(f, v[i].token, MENTION_DESCRIBED, err));
    return LB_OK;
}

/* added_tokens.json: {"text": id}, read where there is no added_tokens_decoder. */
static lb_status add_older(lb_tok_folder *f, lb_err *err) {
    lb_json *added;
    LB_TRY(lb_tok_folder_json(f, "added_tokens.json", &added, err));
    numbered *v = added && added->n ? lb_arena_new(&f->arena, numbered, added->n) : NULL;
    u64 n = 0;
    if (!v)
        return LB_OK;
    for (const lb_json *o = added->first; o; o = o->next) {
        lb_json *text = lb_json_new_str(&f->arena, o->key);
        if (!text || !lb_json_as_u64(o, &v[n].id))
            return lb_fail(err, LB_E_FORMAT, "added_tokens.json: \"%.*s\": no id", LB_FMT(o->key));
        v[n++].token = text;
    }
    qsort(v, (size_t)n, sizeof *v, compare_numbers);
    for (u64 i = 0; i < n; i++)
        LB_TRY(add_token(f, v[i].token, MENTION_OLDER, err));
    return LB_OK;
}

lb_status lb_tok_folder_map(lb_tok_folder *f, lb_json **out, lb_err *err) {
    *out = NULL;
    return lb_json_get(f->tok_config, "added_tokens_decoder")
               ? LB_OK
               : lb_tok_folder_json(f, "special_tokens_map.json", out, err);
}

/* The member that counts; NULL: neither file has it. */
static const lb_json *member(const lb_json *map, const lb_json *config, const char *key) {
    const lb_json *v = lb_json_get(map, key);
    return v ? v : lb_json_get(config, key);
}

/* NAME_token of the files, else of the class. */
static lb_status add_named(lb_tok_folder *f, const lb_json *map, const char *key, lb_err *err) {
    const lb_json *v = member(map, f->tok_config, key);
    const lb_tok_default *d = lb_tok_class_defaults(f);
    if (v)
        return add_token(f, v, MENTION_NAMED, err);
    while (d->key && strcmp(d->key, key) != 0)
        d++;
    if (!d->key)
        return LB_OK;
    v = lb_json_new_str(&f->arena, lb_str_c(d->text));
    return v ? add_token(f, v, MENTION_NAMED, err)
             : lb_fail(err, LB_E_NOMEM, "tokenizer_config.json: out of memory");
}

static const char *const named[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};

static bool is_named(lb_str key) {
    for (u32 i = 0; i < LB_LEN(named); i++)
        if (lb_str_eq_c(key, named[i]))
            return true;
    return false;
}

/* The model's own: "image_token" and the like. */
static lb_status add_own(lb_tok_folder *f, const lb_json *members, lb_err *err) {
    for (const lb_json *o = members ? members->first : NULL; o; o = o->next)
        if (lb_str_ends(o->key, LB_STR("_token")) && !is_named(o->key))
            LB_TRY(add_token(f, o, MENTION_NAMED, err));
    return LB_OK;
}

static lb_status add_list(lb_tok_folder *f, const lb_json *list, lb_err *err) {
    for (const lb_json *v = list ? list->first : NULL; v; v = v->next)
        LB_TRY(add_token(f, v, MENTION_LISTED, err));
    return LB_OK;
}

/* extra_special_tokens, once called additional_special_tokens. */
static lb_status add_extra(lb_tok_folder *f, const lb_json *map, lb_err *err) {
    const lb_json *own = lb_json_get(f->tok_config, "extra_special_tokens");
    const lb_json *older = lb_json_get(map, "extra_special_tokens");
    if (!own || !own->n)
        own = lb_json_get(f->tok_config, "additional_special_tokens");
    LB_TRY(add_list(f, own, err));
    LB_TRY(add_list(f, older, err));
    return own || older ? LB_OK : add_list(f, lb_json_get(map, "additional_special_tokens"), err);
}

lb_status lb_tok_folder_add_configured(lb_tok_folder *f, lb_err *err) {
    const lb_json *decoder = lb_json_get(f->tok_config, "added_tokens_decoder");
    lb_json *map;
    LB_TRY(lb_tok_folder_map(f, &map, err));
    LB_TRY(decoder ? add_decoder(f, decoder, err) : add_older(f, err));
    for (u32 i = 0; i < LB_LEN(named); i++)
        LB_TRY(add_named(f, map, named[i], err));
    LB_TRY(add_own(f, map, err));
    LB_TRY(add_own(f, f->tok_config, err));
    return add_extra(f, map, err);
}
