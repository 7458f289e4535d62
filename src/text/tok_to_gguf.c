/* SPDX-License-Identifier: Apache-2.0 */
/* tok_to_gguf.c: the files of a folder -> tokenizer.* keys, as the reference converter writes them.
 *
 * Three ways, tried in the order of the architecture's row: SPM (tokenizer.model), HF (a
 * tokenizer.json whose BPE has byte fallback, written as GGUF "llama"), BPE (a tokenizer.json of
 * byte-level BPE, GGUF "gpt2"); one model has a way of its own (tok_internlm2.c). Source:
 * conversion/base.py (_set_vocab_sentencepiece, _set_vocab_llama_hf, _set_vocab_gpt2),
 * conversion/llama.py, qwen.py, gemma.py, phi.py, nemotron.py and gguf-py/gguf/vocab.py of
 * llama-cpp-python 0.3.36. */
#include "text/tokdata.h"

#include "text/special.h"
#include "text/spm.h"
#include "text/tok_job.h"

typedef enum way { WAY_NONE, WAY_SPM, WAY_HF, WAY_BPE, WAY_INTERNLM2 } way;

enum {
    ROW_CONFIG_PREFIX = 1, /* add_prefix_space of tokenizer_config.json is written */
    ROW_NO_PREFIX = 2,     /* add_space_prefix = false after an SPM vocabulary */
    ROW_CODE_GEMMA = 8,    /* token 107 ends a turn, whatever the files say */
    ROW_LLAMA_SIZES = 4,   /* vocabularies of 32016 (CodeLlama) and 49152 (Granite, SmolLM) */
    ROW_PREFIX_LAST = 128, /* SPM: as CONFIG_PREFIX, behind the other keys */
    ROW_ENDS = 64,    /* eod_token_id ends a text, the first of a list of eos_token_id a turn */
    ROW_MERGES = 256, /* HF: a model of GGUF by the architecture's name, with merges */
    ROW_RANKS = 512,  /* HF: scores by the ranks of merges; the reference gives all one score, which
                         llama.cpp cuts otherwise, but it has no such way for these */
    ROW_PAD_UNK = 32, /* SPM: tokens 0 and 1 are the padding and the unknown one */
    ROW_AS_WRITTEN = 16 /* SPM: added tokens keep blanks and are special only where the files
                           say so; tokenizer.json's count too */
};

static const struct row {
    const char *arch;
    way ways[3];
    u32 flags;
} rows[] = {
    {"llama", {WAY_SPM, WAY_HF, WAY_BPE}, ROW_CONFIG_PREFIX | ROW_LLAMA_SIZES},
    {"granite", {WAY_SPM, WAY_HF, WAY_BPE}, ROW_CONFIG_PREFIX | ROW_LLAMA_SIZES},
    {"smollm3", {WAY_SPM, WAY_HF, WAY_BPE}, ROW_CONFIG_PREFIX | ROW_LLAMA_SIZES},
    {"mistral3", {WAY_SPM, WAY_HF, WAY_BPE}, ROW_CONFIG_PREFIX | ROW_LLAMA_SIZES},
    {"qwen2", {WAY_SPM, WAY_BPE}, 0},
    {"qwen3", {WAY_SPM, WAY_BPE}, 0},
    {"qwen3moe", {WAY_SPM, WAY_BPE}, 0}, /* the reference: BPE alone; as qwen3 */
    {"granitemoe", {WAY_SPM, WAY_HF, WAY_BPE}, ROW_CONFIG_PREFIX | ROW_LLAMA_SIZES},
    {"gemma", {WAY_SPM, WAY_BPE}, ROW_NO_PREFIX | ROW_CODE_GEMMA},
    {"gemma2", {WAY_SPM, WAY_BPE}, ROW_NO_PREFIX},
    {"gemma3", {WAY_SPM, WAY_BPE}, ROW_NO_PREFIX},
    {"gemma-embedding", {WAY_SPM, WAY_BPE}, ROW_NO_PREFIX},
    {"gemma4", {WAY_HF}, ROW_MERGES},
    {"phi3", {WAY_SPM, WAY_HF, WAY_BPE}, ROW_AS_WRITTEN | ROW_RANKS},
    {"ernie4_5",
     {WAY_SPM, WAY_HF, WAY_BPE},
     ROW_PREFIX_LAST | ROW_RANKS}, /* the reference: SPM alone */
    {"ernie4_5-moe", {WAY_SPM, WAY_HF, WAY_BPE}, ROW_PREFIX_LAST | ROW_RANKS},
    {"hunyuan-dense", {WAY_BPE}, ROW_ENDS},
    {"phimoe", {WAY_SPM, WAY_HF, WAY_BPE}, ROW_AS_WRITTEN | ROW_RANKS},
    {"internlm2", {WAY_INTERNLM2, WAY_HF, WAY_BPE}, ROW_RANKS}, /* the reference: the first alone */
    {"nemotron", {WAY_SPM, WAY_BPE}, ROW_PAD_UNK},
};
static const struct row default_row = {"", {WAY_BPE}, 0};

/* Types that the reference gives the id of an added token of that text, after the files' own
 * (_set_vocab_glm, conversion/glm.py, chatglm.py). */
static const struct {
    const char *arch;
    lb_special_named named[5];
} named_tokens[] = {
    {"chatglm",
     {{"eos", "<|endoftext|>"}, {"eot", "<|user|>"}, {"unk", "<|endoftext|>"}, {NULL, NULL}}},
    {"glm4",
     {{"eos", "<|endoftext|>"},
      {"eot", "<|user|>"},
      {"unk", "<|endoftext|>"},
      {"bos", "<|endoftext|>"},
      {NULL, NULL}}},
    {"glm4moe",
     {{"bos", "[gMASK]"},
      {"eot", "<|user|>"},
      {"unk", "<|endoftext|>"},
      {"eom", "<|observation|>"},
      {NULL, NULL}}},
};

/* ---- SPM: tokenizer.model ---- */

static lb_status set_token(lb_tok_job *j, u64 id, lb_str text, i32 type, lb_err *err) {
    j->scores[id] = -1000.0f; /* the reference's score of an added token */
    return lb_tok_set(j, id, text, type, err);
}

static lb_status set_pieces(lb_tok_job *j, const lb_spm *spm, lb_err *err) {
    LB_TRY(lb_tok_make_arrays(j, j->opts->n_vocab ? j->opts->n_vocab : spm->n_pieces, true, err));
    for (u64 i = 0; i < j->n; i++) {
        if (i < spm->n_pieces) {
            i32 type = (i32)lb_spm_seen_type(spm, &spm->pieces[i]);
            LB_TRY(lb_tok_set(j, i, spm->pieces[i].text, type, err));
            j->scores[i] = spm->pieces[i].score;
        } else {
            LB_TRY(lb_tok_pad(j, i, err));
            j->scores[i] = -10000.0f;
        }
    }
    return LB_OK;
}

static lb_status spm_pieces(lb_tok_job *j, lb_err *err) {
    lb_arena scratch = {0};
    lb_str bytes;
    bool found;
    lb_spm spm;
    lb_status st = lb_tok_folder_read_to(j->f, "tokenizer.model", &scratch, &bytes, &found, err);
    if (st == LB_OK)
        st = lb_spm_parse(&spm, bytes, "tokenizer.model", &scratch, err);
    if (st == LB_OK)
        st = set_pieces(j, &spm, err);
    lb_arena_deinit(&scratch);
    return st;
}

static lb_status set_added(lb_tok_job *j, u64 id, const lb_json *token, lb_str text, u32 flags,
                           lb_err *err) {
    bool special = false;
    if (id >= j->n)
        return LB_OK;
    (void)lb_json_as_bool(lb_json_get(token, "special"), &special);
    if (!(flags & ROW_AS_WRITTEN)) {
        special |= lb_tok_looks_special(text);
        if (!special)
            LB_TRY(lb_tok_with_spaces(j, text, &text, err));
    }
    return set_token(j, id, text, special ? LB_SPM_CONTROL : LB_SPM_USER_DEFINED, err);
}

static lb_status spm_added(lb_tok_job *j, u32 flags, lb_err *err) {
    lb_json *added;
    LB_TRY(lb_tok_folder_json(j->f, "added_tokens.json", &added, err));
    for (const lb_json *o = added ? added->first : NULL; o; o = o->next) {
        u64 id;
        if (!lb_json_as_u64(o, &id))
            return lb_fail(err, LB_E_FORMAT, "added_tokens.json: \"%.*s\": no id", LB_FMT(o->key));
        if (id < j->n)
            LB_TRY(set_token(j, id, o->key, LB_SPM_USER_DEFINED, err));
    }
    const lb_json *decoder = lb_json_get(j->f->tok_config, "added_tokens_decoder");
    for (const lb_json *o = decoder ? decoder->first : NULL; o; o = o->next) {
        u64 id;
        lb_str text;
        if (!lb_str_to_u64(o->key, &id) || !lb_json_as_str(lb_json_get(o, "content"), &text))
            return lb_fail(err, LB_E_FORMAT,
                           "tokenizer_config.json: added_tokens_decoder: \"%.*s\": an id with a "
                           "content is expected",
                           LB_FMT(o->key));
        LB_TRY(set_added(j, id, o, text, flags, err));
    }
    return LB_OK;
}

/* added_tokens of tokenizer.json. */
static lb_status json_added(lb_tok_job *j, u32 flags, lb_err *err) {
    const lb_json *list = j->f->has_tokenizer ? lb_json_get(j->f->tok.rest, "added_tokens") : NULL;
    for (const lb_json *o = list ? list->first : NULL; o; o = o->next) {
        u64 id;
        lb_str text;
        if (!lb_json_as_u64(lb_json_get(o, "id"), &id) ||
            !lb_json_as_str(lb_json_get(o, "content"), &text))
            return lb_fail(err, LB_E_FORMAT,
                           "tokenizer.json: added_tokens: an id with a content is expected");
        LB_TRY(set_added(j, id, o, text, flags, err));
    }
    return LB_OK;
}

static lb_status load_rest(lb_tok_job *j, lb_err *err) {
    return lb_tok_folder_has(j->f, "tokenizer.json")
               ? lb_tok_folder_tokenizer(j->f, j->opts->keep, err)
               : LB_OK;
}

static lb_status way_spm(lb_tok_job *j, u32 flags, lb_err *err) {
    LB_TRY(spm_pieces(j, err));
    LB_TRY(spm_added(j, flags, err));
    LB_TRY(load_rest(j, err));
    if (flags & ROW_AS_WRITTEN)
        LB_TRY(json_added(j, flags, err));
    LB_TRY(lb_tok_put_vocab(j, "llama", lb_tok_pre(j, LB_STR("default"), "fixed"), err));
    j->info.n_embd_rows = j->n;
    lb_special_opts special = {.n_vocab = j->n};
    return lb_special_put(j->f, &special, j->meta, err);
}

/* ---- HF: a tokenizer.json with byte fallback ---- */

static lb_status mark(lb_map *specials, const lb_json *v, lb_err *err) {
    lb_str text;
    return lb_tok_token_text(v, &text) ? lb_map_put(specials, text, 1, NULL, err) : LB_OK;
}

/* Members that `over` has too count there. */
static lb_status mark_all(lb_map *specials, const lb_json *config, const lb_json *over,
                          lb_err *err) {
    static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
    for (const lb_json *o = config ? config->first : NULL; o; o = o->next)
        if (lb_str_ends(o->key, LB_STR("_token")) && !lb_json_get_str(over, o->key))
            LB_TRY(mark(specials, o, err));
    for (u32 i = 0; i < LB_LEN(lists); i++) {
        const lb_json *list = lb_json_get(over, lists[i]) ? NULL : lb_json_get(config, lists[i]);
        for (const lb_json *v = list ? list->first : NULL; v; v = v->next)
            LB_TRY(mark(specials, v, err));
    }
    return LB_OK;
}

/* transformers' all_special_tokens: those that the configuration names, and the class's. */
static lb_status find_specials(lb_tok_job *j, lb_map *specials, lb_err *err) {
    const lb_json *c = j->f->tok_config;
    lb_json *map;
    LB_TRY(lb_tok_folder_map(j->f, &map, err));
    LB_TRY(mark_all(specials, c, map, err));
    LB_TRY(mark_all(specials, map, NULL, err));
    for (const lb_tok_default *d = lb_tok_class_defaults(j->f); d->key; d++)
        if (!lb_json_get(c, d->key) && !lb_json_get(map, d->key))
            LB_TRY(lb_map_put(specials, lb_str_c(d->text), 1, NULL, err));
    return LB_OK;
}

static lb_status hf_tokens(lb_tok_job *j, const lb_map *specials, lb_err *err) {
    const lb_hf_tok *t = &j->f->tok;
    u64 n = t->n_vocab;
    for (u64 i = 0; i < t->n_added; i++)
        n += t->added[i].id >= t->n_vocab;
    LB_TRY(lb_tok_make_arrays(j, n, true, err));
    for (u64 i = 0; i < t->n_vocab; i++) {
        if (!lb_texts_has(&t->token, i))
            return lb_fail(err, LB_E_FORMAT, "tokenizer.json: model.vocab: no token %llu",
                           (unsigned long long)i);
        lb_str text = lb_texts_get(&t->token, i);
        i32 type = lb_tok_is_byte(text)                ? LB_SPM_BYTE
                   : lb_map_find(specials, text, NULL) ? LB_SPM_CONTROL
                                                       : LB_SPM_NORMAL;
        LB_TRY(set_token(j, i, text, type, err));
    }
    for (u64 i = 0; i < t->n_added; i++) {
        const lb_hf_added *a = &t->added[i];
        if (a->id < t->n_vocab)
            continue;
        if (a->id >= n)
            return lb_fail(err, LB_E_FORMAT, "tokenizer.json: added_tokens: id %u leaves a hole",
                           a->id);
        bool special = lb_map_find(specials, a->content, NULL);
        i32 type = special ? LB_SPM_CONTROL : LB_SPM_USER_DEFINED;
        LB_TRY(set_token(j, a->id, a->content, type, err));
    }
    return LB_OK;
}

/* The score of a token is the rank of the first merge that gives it, so that SentencePiece's way
 * (the best pair first) takes the merges in their order; those that no merge gives come last. Added
 * tokens of the vocabulary are marked, too. */
static lb_status score_ranks(lb_tok_job *j, lb_err *err) {
    const lb_hf_tok *t = &j->f->tok;
    lb_buf both = {0};
    lb_status st = LB_OK;
    u64 id;
    for (u64 i = 0; i < t->n_added; i++)
        if (t->added[i].id < t->n_vocab && j->types[t->added[i].id] == LB_SPM_NORMAL)
            j->types[t->added[i].id] = t->added[i].special ? LB_SPM_CONTROL : LB_SPM_USER_DEFINED;
    for (u64 i = 0; i < t->n_vocab; i++)
        j->scores[i] = j->types[i] == LB_SPM_NORMAL ? -(float)(t->n_merges + 1) : 0;
    for (u64 i = t->n_merges; i-- > 0 && st == LB_OK;) {
        lb_buf_reset(&both);
        lb_buf_put_str(&both, lb_hf_tok_part(t, i, 0));
        lb_buf_put_str(&both, lb_hf_tok_part(t, i, 1));
        st = lb_buf_status(&both, err);
        if (st == LB_OK && lb_texts_index_find(&t->id_of, &t->token, lb_buf_str(&both), &id) &&
            j->types[id] == LB_SPM_NORMAL)
            j->scores[id] = -(float)(i + 1);
    }
    lb_buf_deinit(&both);
    return st;
}

/* Whether the reference takes this way: BPE with byte fallback and a sequence of decoders. */
static bool is_llama_hf(const lb_hf_tok *t) {
    bool byte_fallback = false;
    lb_str type, decoder;
    (void)lb_json_as_bool(lb_json_get(t->model, "byte_fallback"), &byte_fallback);
    return lb_json_as_str(lb_json_get(t->model, "type"), &type) && lb_str_eq_c(type, "BPE") &&
           byte_fallback && lb_json_as_str(lb_json_path(t->rest, "decoder.type"), &decoder) &&
           lb_str_eq_c(decoder, "Sequence");
}

/* A chat's parser reads them: they are written out whatever the files say. */
static void show_marks(lb_tok_job *j) {
    static const char *const marks[] = {"<|channel>",   "<channel|>",       "<|tool_call>",
                                        "<tool_call|>", "<|tool_response>", "<tool_response|>",
                                        "<|\"|>"};
    for (u64 i = 0; i < j->n; i++)
        for (u32 k = 0; k < LB_LEN(marks); k++)
            if (lb_str_eq_c(lb_texts_get(&j->tokens, i), marks[k]))
                j->types[i] = LB_SPM_USER_DEFINED;
}

/* The reference's class for gemma4: merges as in a file of byte-level BPE. */
static lb_status put_merges(lb_tok_job *j, lb_err *err) {
    lb_texts merges = {0};
    lb_special_opts special = {.merges = &merges};
    show_marks(j);
    lb_status st =
        lb_tok_put_vocab(j, "gemma4", j->opts->pre.len ? j->opts->pre : LB_STR_NONE, err);
    if (st == LB_OK)
        st = lb_tok_read_merges(j, &merges, err);
    if (st == LB_OK)
        st = lb_special_put(j->f, &special, j->meta, err);
    lb_texts_deinit(&merges);
    if (st == LB_OK)
        st = lb_meta_set_bool(j->meta, "tokenizer.ggml.add_space_prefix", false, err);
    if (st == LB_OK)
        st = lb_meta_set_bool(j->meta, "tokenizer.ggml.add_bos_token", true, err);
    return st;
}

static lb_status way_hf(lb_tok_job *j, u32 flags, lb_err *err) {
    lb_map specials = {0};
    lb_status st;
    LB_TRY(lb_tok_folder_tokenizer(j->f, true, err));
    u64 n_listed = j->f->tok.n_vocab + j->f->tok.n_added;
    LB_TRY(lb_tok_folder_add_configured(j->f, err));
    LB_TRY_DONE(st, find_specials(j, &specials, err));
    LB_TRY_DONE(st, hf_tokens(j, &specials, err));
    if (flags & ROW_RANKS)
        LB_TRY_DONE(st, score_ranks(j, err));
    if (flags & ROW_MERGES) {
        j->info.pre = j->opts->pre.len ? "given" : "fixed";
        if (!lb_tok_folder_has(j->f, "tokenizer.model"))
            j->info.n_embd_rows = n_listed;
        st = put_merges(j, err);
        goto done;
    }
    LB_TRY_DONE(st, lb_tok_put_vocab(j, "llama", lb_tok_pre(j, LB_STR("default"), "fixed"), err));
    lb_special_opts special = {.n_vocab = j->n};
    st = lb_special_put(j->f, &special, j->meta, err);
done:
    lb_map_deinit(&specials);
    return st;
}

/* ---- ---- */

static const struct row *find_row(lb_str arch) {
    for (u32 i = 0; i < LB_LEN(rows); i++)
        if (lb_str_eq_c(arch, rows[i].arch))
            return &rows[i];
    return &default_row;
}

static lb_status refuse_tekken(const lb_tok_job *j, lb_err *err) {
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "%s: a tekken.json without tokenizer.json: Mistral's own format is not read; "
                   "add the tokenizer.json that goes with the model",
                   j->f->src->path);
}

/* What the reference's class of llama looks for before anything else. */
static lb_status check_llama(const lb_tok_job *j, lb_err *err) {
    lb_str name;
    if (lb_tok_folder_has(j->f, "tekken.json") && !lb_tok_folder_has(j->f, "tokenizer.json"))
        return refuse_tekken(j, err);
    if (lb_json_as_str(lb_json_get(j->f->tok_config, "tokenizer_class"), &name) &&
        lb_str_eq_c(name, "HybridDNATokenizer"))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tokenizer_config.json: HybridDNATokenizer: the words of DNA that its code "
                       "adds are in no file");
    return LB_OK;
}

/* The first way of the row whose files are there. */
static lb_status choose(lb_tok_job *j, const struct row *row, way *out, lb_err *err) {
    bool has_json = lb_tok_folder_has(j->f, "tokenizer.json") || lb_tok_has_legacy(j->f);
    if (row->flags & ROW_CONFIG_PREFIX)
        LB_TRY(check_llama(j, err));
    for (u32 i = 0; i < LB_LEN(row->ways) && row->ways[i] != WAY_NONE; i++) {
        *out = row->ways[i];
        bool spm = *out == WAY_SPM || *out == WAY_INTERNLM2;
        if (spm && lb_tok_folder_has(j->f, "tokenizer.model"))
            return LB_OK;
        if (spm || !has_json)
            continue;
        if (*out == WAY_BPE)
            return LB_OK;
        LB_TRY(lb_tok_folder_tokenizer(j->f, true, err));
        if (is_llama_hf(&j->f->tok))
            return LB_OK;
    }
    if (lb_tok_folder_has(j->f, "tekken.json"))
        return refuse_tekken(j, err);
    for (u64 i = 0; i < j->f->src->n_sides; i++)
        if (lb_str_ends(j->f->src->sides[i].name, LB_STR("tiktoken.model")) ||
            lb_str_ends(j->f->src->sides[i].name, LB_STR(".tiktoken")))
            return lb_fail(
                err, LB_E_UNSUPPORTED,
                "%s: %.*s of a tokenizer that is not known here (tokenizer_class): how it "
                "cuts texts is in its own code: add a tokenizer.json",
                j->f->src->path, LB_FMT(j->f->src->sides[i].name));
    bool spm = row->ways[0] == WAY_SPM || row->ways[0] == WAY_INTERNLM2;
    return lb_fail(err, LB_E_NOT_FOUND,
                   "%s: no tokenizer.json%s: the tokenizer files of the model are missing",
                   j->f->src->path, spm ? " and no tokenizer.model" : "");
}

static lb_status llama_sizes(lb_tok_job *j, lb_err *err) {
    u64 n = j->opts->n_vocab ? j->opts->n_vocab : 32000;
    if (n == 32016 && !lb_meta_find(j->meta, "tokenizer.ggml.eot_token_id"))
        LB_TRY(lb_meta_set_u32(j->meta, "tokenizer.ggml.eot_token_id", 32010, err));
    if (n == 49152)
        LB_TRY(lb_meta_set_bool(j->meta, "tokenizer.ggml.add_bos_token", false, err));
    return LB_OK;
}

/* conversion/hunyuan.py: ids that the configs of its models have wrong elsewhere. */
static lb_status put_ends(lb_tok_job *j, lb_err *err) {
    const lb_json *eod = lb_json_get(j->f->config, "eod_token_id"), *list;
    u64 id = 3; /* the default of the config class */
    lb_json *generation;
    if (!eod || (lb_json_as_u64(eod, &id) && id <= UINT32_MAX))
        LB_TRY(lb_meta_set_u32(j->meta, "tokenizer.ggml.eos_token_id", (u32)id, err));
    LB_TRY(lb_tok_folder_json(j->f, "generation_config.json", &generation, err));
    list = lb_json_get(generation, "eos_token_id");
    if (list && list->type == LB_JARRAY && list->n >= 2 && lb_json_as_u64(list->first, &id) &&
        id <= UINT32_MAX)
        LB_TRY(lb_meta_set_u32(j->meta, "tokenizer.ggml.eot_token_id", (u32)id, err));
    return LB_OK;
}

static lb_status run(lb_tok_job *j, lb_err *err) {
    const struct row *row = find_row(j->opts->arch);
    way w = WAY_NONE;
    bool prefix;
    for (u32 i = 0; i < LB_LEN(named_tokens); i++)
        if (lb_str_eq_c(j->opts->arch, named_tokens[i].arch))
            j->named = named_tokens[i].named;
    i64 pad;
    j->no_pad = (row->flags & ROW_ENDS) &&
                lb_json_as_i64(lb_json_get(j->f->config, "pad_token_id"), &pad) && pad < 0;
    LB_TRY(choose(j, row, &w, err));
    if ((row->flags & ROW_CONFIG_PREFIX) &&
        lb_json_as_bool(lb_json_get(j->f->tok_config, "add_prefix_space"), &prefix))
        LB_TRY(lb_meta_set_bool(j->meta, "tokenizer.ggml.add_space_prefix", prefix, err));
    LB_TRY(w == WAY_SPM         ? way_spm(j, row->flags, err)
           : w == WAY_INTERNLM2 ? lb_tok_way_internlm2(j, err)
           : w == WAY_HF        ? way_hf(j, row->flags, err)
                                : lb_tok_way_bpe(j, err));
    if (row->flags & ROW_CODE_GEMMA)
        LB_TRY(lb_meta_set_u32(j->meta, "tokenizer.ggml.eot_token_id", 107, err));
    if ((row->flags & ROW_PAD_UNK) && w == WAY_SPM) {
        LB_TRY(lb_meta_set_u32(j->meta, "tokenizer.ggml.padding_token_id", 0, err));
        LB_TRY(lb_meta_set_u32(j->meta, "tokenizer.ggml.unknown_token_id", 1, err));
    }
    if ((row->flags & ROW_NO_PREFIX) && w == WAY_SPM)
        LB_TRY(lb_meta_set_bool(j->meta, "tokenizer.ggml.add_space_prefix", false, err));
    if ((row->flags & ROW_PREFIX_LAST) && w == WAY_SPM &&
        lb_json_as_bool(lb_json_get(j->f->tok_config, "add_prefix_space"), &prefix))
        LB_TRY(lb_meta_set_bool(j->meta, "tokenizer.ggml.add_space_prefix", prefix, err));
    if (row->flags & ROW_ENDS)
        LB_TRY(put_ends(j, err));
    return row->flags & ROW_LLAMA_SIZES ? llama_sizes(j, err) : LB_OK;
}

/* ---- ---- */

lb_status lb_tok_open(lb_tok **out, const lb_source *src, lb_err *err) {
    lb_tok *t = lb_alloc_zero(1, sizeof *t);
    *out = t;
    if (!t)
        return lb_tok_no_memory(err);
    lb_status st = lb_tok_folder_open(&t->f, src, err);
    if (st != LB_OK)
        lb_tok_close(out);
    return st;
}

void lb_tok_close(lb_tok **t) {
    if (*t)
        lb_tok_folder_close(&(*t)->f);
    lb_free(*t);
    *t = NULL;
}

lb_status lb_tok_to_meta(lb_tok *t, const lb_tok_opts *opts, lb_gguf_meta *meta, lb_tok_info *info,
                         lb_err *err) {
    lb_tok_job j = {.f = &t->f, .opts = opts, .meta = meta, .info = {.n_embd_rows = UINT64_MAX}};
    lb_status st = run(&j, err);
    if (st == LB_OK && info)
        *info = j.info;
    lb_texts_deinit(&j.tokens);
    return st;
}
