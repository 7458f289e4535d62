/* SPDX-License-Identifier: Apache-2.0 */
/* merge_vocab.c: tokenizers of a merge's models opened, that of the result written; chat templates.
 */
#include "ops/merge_vocab.h"
#include "base/hash.h"
#include "merge/result.h"
#include "merge/templates.h"
#include "ops/computed.h"
#include "text/hf_edit.h"
#include "text/tok_edit.h"
#include "text/tok_vocab.h"

#define FILE_MAX ((u64)512 * LB_MIB) /* as text/tok_folder.h */

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the tokenizer of a merge");
}

typedef struct maker {
    lb_source *s;
    const lb_merge_tokens_in *in;
    const lb_merge_config *c;
    lb_arena scratch;
    lb_tok_vocab **opened;  /* [n_models] NULL: shared, or none */
    lb_vocab_model *models; /* [n_models] */
    lb_hash128 *sums;       /* [n_models] of the tokenizer's files */
    u32 donor;              /* whose tokenizer the result has; LB_NO_MODEL: in->other's */
    lb_tok_vocab *of;       /* the donor's once more, which becomes the result's */
    lb_hf_tok *out;
    bool cut;
    u64 n_added;
    lb_vocab *v;
    lb_buf *notes;
    lb_err *err;
} maker;

static lb_str model_name(const maker *k, u32 m) {
    return k->c->models[m].text;
}

/* ---- the models' tokenizers ---- */

/* Rows of the embedding: ids beyond are no tokens. */
static lb_status count_rows(maker *k, u32 m) {
    const lb_merge_view *v = &k->in->views[m];
    for (u32 i = 0; i < v->n; i++) {
        const lb_merge_fact *f = &v->facts[i];
        if (!f->is_vocab || f->after || f->same_as != LB_NO_FACT || f->shape.rank != 2)
            continue;
        k->models[m].n_rows = LB_MAX(k->models[m].n_rows, f->shape.dim[0]);
    }
    if (k->models[m].n_rows == 0 || k->models[m].n_rows >= LB_NO_ROW)
        return lb_fail(k->err, LB_E_UNSUPPORTED,
                       "%.*s: tokenizer: the embedding of '%.*s' is not known: its vocabulary "
                       "cannot be joined with others",
                       LB_FMT(k->c->what), LB_FMT(model_name(k, m)));
    return LB_OK;
}

static lb_tok_opts opts_of(const maker *k, u32 m) {
    const lb_ctensors *c = &k->in->views[m].canon;
    return (lb_tok_opts){.arch = lb_str_c(c->arch ? lb_arch_name(c->arch) : "llama"),
                         .n_vocab = c->hp.n_vocab};
}

/* Models made from one base have the same files: they are parsed once. */
static lb_status sum_files(maker *k, u32 m) {
    const lb_source *s = k->s->inputs[m];
    lb_arena text = {0};
    lb_xxh h;
    lb_status st = LB_OK;
    lb_xxh_init(&h);
    for (u64 i = 0; i < s->n_sides && st == LB_OK; i++) {
        lb_str bytes;
        bool template = lb_str_ends(s->sides[i].name, LB_STR(".jinja"));
        if (template || !lb_tok_is_file(s->sides[i].name))
            continue;
        st = lb_side_read(&s->sides[i], FILE_MAX, &text, &bytes, k->err);
        lb_xxh_update(&h, s->sides[i].name.ptr, s->sides[i].name.len + 1);
        if (st == LB_OK)
            lb_xxh_update(&h, bytes.ptr, bytes.len);
        lb_arena_reset(&text);
    }
    k->sums[m] = lb_xxh_digest(&h);
    lb_arena_deinit(&text);
    return st;
}

static const lb_hf_tok *find_same(const maker *k, u32 m) {
    for (u32 i = 0; i < m && k->s->inputs[m]->format != LB_FORMAT_GGUF; i++)
        if (k->models[i].tok && k->s->inputs[i]->format != LB_FORMAT_GGUF &&
            memcmp(&k->sums[i], &k->sums[m], sizeof k->sums[m]) == 0)
            return k->models[i].tok;
    return NULL;
}

static lb_status open_one(maker *k, u32 m) {
    lb_tok_opts opts = opts_of(k, m);
    lb_hf_tok *t = NULL;
    LB_TRY(count_rows(k, m));
    LB_TRY(sum_files(k, m));
    if ((k->models[m].tok = find_same(k, m)))
        return LB_OK;
    lb_status st = lb_tok_vocab_open(&k->opened[m], k->s->inputs[m], &opts, k->err);
    if (st == LB_OK)
        st = lb_tok_vocab_load(k->opened[m], &t, k->err);
    k->models[m].tok = t;
    if (st == LB_E_NOT_FOUND && m > 0) {
        *k->err = (lb_err){0};
        lb_buf_printf(k->notes, "%.*s has no tokenizer: taken to have that of %.*s\n",
                      LB_FMT(model_name(k, m)), LB_FMT(model_name(k, 0)));
        k->models[m].tok = NULL;
        return LB_OK;
    }
    if (st != LB_OK)
        lb_err_context(k->err, "%.*s: tokenizer of '%.*s'", LB_FMT(k->c->what),
                       LB_FMT(model_name(k, m)));
    return st;
}

static lb_status open_all(maker *k) {
    u32 n = k->c->n_models;
    k->opened = lb_arena_new(&k->scratch, lb_tok_vocab *, n + 1);
    k->models = lb_arena_new(&k->scratch, lb_vocab_model, n + 1);
    k->sums = lb_arena_new(&k->scratch, lb_hash128, n + 1);
    if (!k->opened || !k->models || !k->sums)
        return oom(k->err);
    for (u32 m = 0; m < n; m++)
        LB_TRY(open_one(k, m));
    return LB_OK;
}

/* ---- that of the result ---- */

static const lb_source *donor_source(const maker *k) {
    return k->donor == LB_NO_MODEL ? k->in->other : k->s->inputs[k->donor];
}

static lb_status open_result(maker *k) {
    lb_tok_opts opts = opts_of(k, k->donor == LB_NO_MODEL ? 0 : k->donor);
    u64 n_rows = k->donor == LB_NO_MODEL ? UINT64_MAX : k->models[k->donor].n_rows;
    lb_str text;
    LB_TRY(lb_tok_vocab_open(&k->of, donor_source(k), &opts, k->err));
    LB_TRY(lb_tok_vocab_load(k->of, &k->out, k->err));
    if (lb_hf_tok_n_all(k->out) <= n_rows)
        return LB_OK;
    u64 n_all = lb_hf_tok_n_all(k->out);
    k->cut = true;
    LB_TRY(lb_hf_tok_text(k->out, n_rows, &k->scratch, &text, k->err));
    LB_TRY(lb_tok_vocab_replace(k->of, text, k->err));
    lb_buf_printf(k->notes,
                  "left out: tokens %llu to %llu of the tokenizer, for which the embedding of "
                  "%.*s has no rows\n",
                  (unsigned long long)n_rows, (unsigned long long)n_all - 1,
                  LB_FMT(model_name(k, k->donor)));
    return LB_OK;
}

static lb_status keep_bytes(maker *k, const lb_side_file *f) {
    lb_str bytes;
    LB_TRY(lb_side_read(f, FILE_MAX, &k->s->perm, &bytes, k->err));
    if (f->bytes.ptr && !(bytes = lb_arena_str(&k->s->perm, bytes)).ptr) /* not ours */
        return oom(k->err);
    return lb_computed_side(k->s, f->name, bytes, false, k->err);
}

static void drop_tokenizer(lb_source *s) {
    for (u64 i = s->n_sides; i-- > 0;)
        if (lb_tok_is_file(s->sides[i].name))
            lb_computed_drop_side(s, s->sides[i].name);
}

/* The ids of special tokens that a model's config has, as a text of that form. */
lb_status lb_merge_ids_of(const lb_source *s, lb_arena *perm, lb_str *out, lb_err *err) {
    static const char *const keys[][2] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                          {"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                          {"pad_token_id", "tokenizer.ggml.padding_token_id"}};
    lb_buf b = {0};
    u64 id;
    *out = s->config;
    if (s->format != LB_FORMAT_GGUF || s->config.len)
        return LB_OK;
    for (u32 i = 0; i < LB_LEN(keys); i++)
        if (lb_kv_as_u64(lb_meta_find(s->gguf, keys[i][1]), &id))
            lb_buf_printf(&b, "%s\"%s\": %llu", b.len ? ", " : "{", keys[i][0],
                          (unsigned long long)id);
    lb_buf_put_c(&b, b.len ? "}" : "{}");
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK)
        st = (*out = lb_arena_str(perm, lb_buf_str(&b))).ptr ? LB_OK : oom(err);
    lb_buf_deinit(&b);
    return st;
}

/* Those in generation_config.json are of a token, whichever model's file it is. */
static lb_status take_generation_ids(maker *k) {
    lb_str name = LB_STR("generation_config.json"), text, from;
    const lb_side_file *own = lb_source_side(k->s, name),
                       *other = lb_source_side(donor_source(k), name);
    if (!own || k->donor == 0)
        return LB_OK;
    if (other)
        LB_TRY(lb_side_read(other, FILE_MAX, &k->scratch, &from, k->err));
    else
        LB_TRY(lb_merge_ids_of(donor_source(k), &k->scratch, &from, k->err));
    LB_TRY(lb_side_read(own, FILE_MAX, &k->s->perm, &text, k->err));
    LB_TRY(lb_merge_config_ids(text, from, name.ptr, &k->s->perm, &text, k->err));
    return lb_computed_side(k->s, name, text, false, k->err);
}

static void say_stale(maker *k, lb_str name) {
    lb_buf_printf(k->notes, "left out: %.*s (it does not know the result's tokens)\n",
                  LB_FMT(name));
}

/* The donor's files; once its tokens change, as a tokenizer.json. */
static lb_status take_files(maker *k, bool changed) {
    const lb_source *from = donor_source(k), *as_json = lb_tok_vocab_files(k->of);
    bool made = as_json != from;
    if (k->donor == 0 && !(changed && made))
        return LB_OK;
    for (u64 i = 0; made && changed && i < from->n_sides; i++)
        if (lb_tok_is_stale(from->sides[i].name, true))
            say_stale(k, from->sides[i].name);
    if (made && (changed || from->format == LB_FORMAT_GGUF))
        from = as_json;
    drop_tokenizer(k->s);
    for (u64 i = 0; i < from->n_sides; i++)
        if (lb_tok_is_file(from->sides[i].name))
            LB_TRY(keep_bytes(k, &from->sides[i]));
    return LB_OK;
}

static lb_status edit_small(maker *k, const char *name) {
    const lb_side_file *f = lb_source_side(k->s, lb_str_c(name));
    lb_str text, edited;
    lb_buf left = {0};
    if (!f)
        return LB_OK;
    LB_TRY(lb_side_read(f, FILE_MAX, &k->scratch, &text, k->err));
    lb_status st = lb_tok_edit_config(text, name, k->out, &k->s->perm, &edited, &left, k->err);
    if (st == LB_OK && left.len)
        lb_buf_printf(k->notes, "left out: %.*s of %s (no tokens of the result)\n",
                      LB_FMT(lb_buf_str(&left)), name);
    lb_buf_deinit(&left);
    return st == LB_OK ? lb_computed_side(k->s, lb_str_c(name), edited, false, k->err) : st;
}

static lb_status write_files(maker *k) {
    lb_str text;
    for (u64 i = k->s->n_sides; i-- > 0;)
        if (lb_tok_is_stale(k->s->sides[i].name, k->cut)) {
            say_stale(k, k->s->sides[i].name);
            lb_computed_drop_side(k->s, k->s->sides[i].name);
        }
    LB_TRY(lb_hf_tok_text(k->out, UINT64_MAX, &k->s->perm, &text, k->err));
    LB_TRY(lb_computed_side(k->s, LB_STR("tokenizer.json"), text, false, k->err));
    LB_TRY(edit_small(k, "tokenizer_config.json"));
    LB_TRY(edit_small(k, "special_tokens_map.json"));
    if (!lb_source_side(k->s, LB_STR("added_tokens.json")))
        return LB_OK;
    LB_TRY(lb_tok_edit_added(k->out, &k->s->perm, &text, k->err));
    return lb_computed_side(k->s, LB_STR("added_tokens.json"), text, false, k->err);
}

static void say(maker *k) {
    const lb_vocab *v = k->v;
    u64 had = k->donor == LB_NO_MODEL ? v->n_rows : k->models[k->donor].n_rows;
    lb_str whose = k->c->models[k->donor == LB_NO_MODEL ? k->c->vocab_model : k->donor].text;
    lb_buf_printf(k->notes,
                  "vocabulary: that of %.*s, %llu tokens added: %llu tokens in %llu rows\n",
                  LB_FMT(whose), (unsigned long long)k->n_added, (unsigned long long)v->n_tokens,
                  (unsigned long long)v->n_rows);
    if (v->n_rows < had)
        lb_buf_printf(k->notes,
                      "left out: %llu rows without a token at the end of %.*s's vocabulary: "
                      "tokenizer: {pad_to_multiple_of: 64} rounds it up\n",
                      (unsigned long long)(had - v->n_rows), LB_FMT(whose));
    if (v->n_nowhere)
        lb_buf_printf(k->notes,
                      "%llu tokens have a row in no model: theirs is zero, or a setting's\n",
                      (unsigned long long)v->n_nowhere);
}

static lb_status make(maker *k) {
    LB_TRY(open_all(k));
    LB_TRY(open_result(k));
    LB_TRY(lb_vocab_extend(k->out, k->c, k->models, &k->scratch, &k->n_added, k->err));
    LB_TRY(lb_vocab_map(k->v, k->out, k->donor, k->c, k->models, &k->s->perm, k->err));
    bool changed = k->n_added || k->cut;
    LB_TRY(take_files(k, changed));
    LB_TRY(take_generation_ids(k));
    if (changed)
        LB_TRY(write_files(k));
    say(k);
    return LB_OK;
}

lb_status lb_merge_tokens_make(lb_source *s, const lb_merge_tokens_in *in, lb_vocab *v,
                               lb_buf *notes, lb_err *err) {
    const lb_merge_config *c = in->config;
    maker k = {.s = s, .in = in, .c = c, .v = v, .notes = notes, .err = err};
    *v = (lb_vocab){0};
    if (c->vocab == LB_VOCAB_KEPT)
        return LB_OK;
    if (c->vocab == LB_VOCAB_MODEL)
        k.donor = c->vocab_model < c->n_models ? c->vocab_model : LB_NO_MODEL;
    lb_status st = make(&k);
    for (u32 i = 0; k.opened && i < c->n_models; i++)
        lb_tok_vocab_close(&k.opened[i]);
    lb_tok_vocab_close(&k.of);
    lb_arena_deinit(&k.scratch);
    return st;
}

/* ---- chat templates ---- */

static lb_str trim(lb_str s) {
    size_t from = 0, to = s.len;
    while (from < to && strchr(" \t\r\n\v\f", s.ptr[from]))
        from++;
    while (to > from && strchr(" \t\r\n\v\f", s.ptr[to - 1]))
        to--;
    return lb_str_sub(s, from, to);
}

/* Of the most inputs; of several, the first one's. */
static lb_status most_common(lb_source *s, const lb_merge_tokens_in *in, lb_str *out, lb_err *err) {
    u32 n = in->config->n_models, best = 0;
    lb_arena scratch = {0};
    lb_str *list = lb_arena_new(&scratch, lb_str, (u64)n + 1);
    lb_status st = list ? LB_OK : oom(err);
    for (u32 i = 0; i < n && st == LB_OK; i++) {
        lb_tok_vocab *v = NULL;
        const lb_ctensors *c = &in->views[i].canon;
        lb_tok_opts opts = {.arch = lb_str_c(c->arch ? lb_arch_name(c->arch) : "llama"),
                            .n_vocab = c->hp.n_vocab};
        st = lb_tok_vocab_open(&v, s->inputs[i], &opts, err);
        if (st == LB_OK)
            st = lb_tok_vocab_template(v, &scratch, &list[i], err);
        list[i] = trim(list[i]);
        lb_tok_vocab_close(&v);
    }
    for (u32 i = 0; i < n && st == LB_OK; i++) {
        u32 same = 0;
        for (u32 j = 0; j < n; j++)
            same += list[i].len && lb_str_eq(list[i], list[j]);
        if (same > best) {
            best = same;
            *out = list[i];
        }
    }
    if (st == LB_OK && best && !(*out = lb_arena_str(&s->perm, *out)).ptr)
        st = oom(err);
    lb_arena_deinit(&scratch);
    return st;
}

lb_status lb_merge_template_set(lb_source *s, const lb_merge_tokens_in *in, lb_err *err) {
    lb_str text, config;
    bool listed = false;
    if (!in->config->chat_template.len)
        return LB_OK;
    LB_TRY(lb_merge_template(in->config, &text, err));
    if (!text.ptr)
        LB_TRY(most_common(s, in, &text, err));
    if (!text.ptr)
        return LB_OK;
    const lb_side_file *f = lb_source_side(s, LB_STR("tokenizer_config.json"));
    if (f) {
        LB_TRY(lb_side_read(f, FILE_MAX, &s->perm, &config, err));
        LB_TRY(lb_tok_config_template(config, text, &s->perm, &config, &listed, err));
        LB_TRY(lb_computed_side(s, LB_STR("tokenizer_config.json"), config, false, err));
    }
    lb_computed_drop_side(s, LB_STR("chat_template.json"));
    if (listed && !lb_source_side(s, LB_STR("chat_template.jinja")))
        return LB_OK;
    return lb_computed_side(s, LB_STR("chat_template.jinja"), text, false, err);
}
