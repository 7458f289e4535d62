/* SPDX-License-Identifier: Apache-2.0 */
/* sampling.c: see sampling.h. Names are llama.cpp's, where it has several those that say most; the
 * others are hidden aliases. */
#include "cli/sampling.h"
#include "base/os.h"
#include "text/json_schema.h"
#include <math.h>
#include <stdlib.h>

#define GRAMMAR_BYTES_MAX (16 * LB_MIB)

#define OFF(member) offsetof(lb_sampling_opts, member)
#define FLOAT(n, a, i, field, h)                                                          \
    {                                                                                     \
        .name = (n), .kind = LB_OPT_FLOAT, .arg = (a), .initial = (i), .off = OFF(field), \
        .help = (h)                                                                       \
    }
#define ALIAS(n, of, k) \
    { .name = (n), .kind = (k), .alias_of = (of), .hidden = true }

const lb_opt lb_sampling_rows[LB_SAMPLING_OPTS] = {
    FLOAT("temp", "T", "0.8", temp, "temperature; 0: always the most likely token"),
    ALIAS("temperature", "temp", LB_OPT_FLOAT),
    FLOAT("dynatemp-range", "R", "0", dynatemp_range,
          "the temperature goes from T - R to T + R, with the entropy of the choice"),
    FLOAT("dynatemp-exp", "X", "1", dynatemp_exp, "exponent of that"),
    {.name = "top-k",
     .kind = LB_OPT_INT,
     .arg = "K",
     .initial = "40",
     .max = 1u << 30,
     .help = "only the K most likely tokens; 0: all",
     .off = OFF(top_k)},
    FLOAT("top-p", "P", "0.95", top_p,
          "only the most likely tokens that together reach the probability P; 1: all"),
    FLOAT("min-p", "P", "0.05", min_p,
          "only tokens of at least P times the largest probability; 0: all"),
    FLOAT("typical", "P", "1", typical,
          "only the tokens nearest to the expected surprise that together pass P; 1: all"),
    ALIAS("typical-p", "typical", LB_OPT_FLOAT),
    FLOAT("top-n-sigma", "N", "-1", top_n_sigma,
          "only logits within N standard deviations of the largest; -1: all"),
    ALIAS("top-nsigma", "top-n-sigma", LB_OPT_FLOAT),
    FLOAT("xtc-probability", "P", "0", xtc_probability,
          "how often all but the last of the tokens above the threshold are left out"),
    FLOAT("xtc-threshold", "P", "0.1", xtc_threshold, "threshold of that; above 0.5: never"),
    {.name = "min-keep",
     .kind = LB_OPT_INT,
     .arg = "N",
     .max = 1u << 30,
     .help = "top-p, min-p, typical and XTC leave at least N tokens",
     .off = OFF(min_keep)},
    FLOAT("repeat-penalty", "R", "1", repeat, "makes tokens of the window less likely; 1: not"),
    FLOAT("presence-penalty", "X", "0", presence, "taken off the logits of tokens of the window"),
    FLOAT("frequency-penalty", "X", "0", frequency, "the same for each time that one stands there"),
    {.name = "repeat-last-n",
     .kind = LB_OPT_STR,
     .arg = "N",
     .initial = "64",
     .help = "tokens of the window of these three; 0: none, -1: the whole context",
     .off = OFF(repeat_last_n)},
    FLOAT("dry-multiplier", "X", "0", dry_multiplier,
          "DRY: penalty on tokens that prolong a repetition; 0: none"),
    FLOAT("dry-base", "X", "1.75", dry_base, "DRY: it grows by this factor with each token"),
    {.name = "dry-allowed-length",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "2",
     .max = 1u << 20,
     .help = "DRY: a repetition of so many tokens costs nothing",
     .off = OFF(dry_allowed)},
    {.name = "dry-penalty-last-n",
     .kind = LB_OPT_STR,
     .arg = "N",
     .initial = "64",
     .help = "DRY: tokens that are searched for repetitions; 0: none, -1: the whole context",
     .off = OFF(dry_last_n)},
    {.name = "dry-sequence-breaker",
     .kind = LB_OPT_STR,
     .arg = "TEXT",
     .repeatable = true,
     .help = "DRY: no repetition reaches across TEXT: in place of a line break, a colon, a quote "
             "and a star; none: nothing breaks one",
     .off = OFF(breakers)},
    {.name = "mirostat",
     .kind = LB_OPT_INT,
     .arg = "0|2",
     .initial = "0",
     .max = 2,
     .help = "2: mirostat 2.0 in place of all steps but the temperature",
     .off = OFF(mirostat)},
    FLOAT("mirostat-ent", "X", "5", mirostat_tau, "mirostat: the surprise that it holds to, tau"),
    FLOAT("mirostat-lr", "X", "0.1", mirostat_eta, "mirostat: how fast it learns, eta"),
    {.name = "logit-bias",
     .kind = LB_OPT_STR,
     .arg = "ID=B",
     .repeatable = true,
     .help = "add B to the logit of the token ID; -inf forbids it",
     .off = OFF(bias)},
    {.name = "samplers",
     .kind = LB_OPT_STR,
     .arg = "NAMES",
     .help = "steps of the choice, in order, between semicolons; one that is not named is left "
             "out. Unless given: penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, "
             "temperature",
     .off = OFF(samplers)},
    {.name = "seed",
     .kind = LB_OPT_STR,
     .arg = "N",
     .help = "seed of the random numbers: the same seed, the same text, whatever the threads; a "
             "random one unless given (--json tells it)",
     .off = OFF(seed)},
    {.name = "stop",
     .kind = LB_OPT_STR,
     .arg = "TEXT",
     .repeatable = true,
     .help = "end before TEXT, which is not printed",
     .off = OFF(stops)},
    {.name = "grammar",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "the text is one of the GBNF grammar in FILE",
     .off = OFF(grammar)},
    {.name = "json-schema",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "the text is JSON that is valid against the schema in FILE; {}: any JSON",
     .off = OFF(schema)},
};

/* ---- values that a table cannot check ---- */

static lb_status window_of(const char *name, const char *text, u32 n_ctx, u32 *out, lb_err *err) {
    u64 n = n_ctx;
    if (strcmp(text, "-1") != 0 && (!lb_str_to_u64(lb_str_c(text), &n) || n > 1u << 26))
        return lb_fail(err, LB_E_USAGE,
                       "--%s: '%s' is not a whole number from 0 to %u, or -1 for the whole context",
                       name, text, 1u << 26);
    *out = (u32)n;
    return LB_OK;
}

static lb_status seed_of(const char *text, u64 *out, lb_err *err) {
    u32 drawn;
    if (text && strcmp(text, "-1") != 0)
        return lb_str_to_u64(lb_str_c(text), out)
                   ? LB_OK
                   : lb_fail(err, LB_E_USAGE, "--seed: '%s' is not a whole number of at least 0",
                             text);
    lb_os_random(&drawn, sizeof drawn);
    *out = drawn;
    return LB_OK;
}

/* "ID=B", and llama.cpp's "ID+B" and "ID-B". */
static lb_status bias_of(const char *text, lb_logit_bias *out, lb_err *err) {
    size_t n = strspn(text, "0123456789");
    const char *number = text + n + (text[n] == '=');
    u64 id;
    char *end = NULL;
    double v = strchr("=+-", text[n]) && *number ? strtod(number, &end) : NAN;
    if (!lb_str_to_u64((lb_str){text, n}, &id) || id >= UINT32_MAX || !end || end == number ||
        *end || isnan(v))
        return lb_fail(err, LB_E_USAGE,
                       "--logit-bias: '%s' is not a token's number, = and a number: 42=-1.5", text);
    *out = (lb_logit_bias){(u32)id, (float)v};
    return LB_OK;
}

/* All but breakers. a: for the biases. */
static lb_status steps_of(const lb_sampling_opts *o, u32 n_ctx, lb_arena *a, lb_sample_opts *s,
                          lb_err *err) {
    lb_logit_bias *bias = lb_arena_new(a, lb_logit_bias, (u64)o->bias.n + 1);
    if (!bias)
        return lb_fail(err, LB_E_NOMEM, "out of memory for options");
    const lb_sample_opts usual = lb_sample_defaults();
    *s = (lb_sample_opts){
        .n_order = usual.n_order,
        .min_keep = (u32)o->min_keep,
        .top_k = (i32)o->top_k,
        .top_p = (float)o->top_p,
        .min_p = (float)o->min_p,
        .typical = (float)o->typical,
        .top_n_sigma = (float)o->top_n_sigma,
        .xtc_probability = (float)o->xtc_probability,
        .xtc_threshold = (float)o->xtc_threshold,
        .temperature = (float)o->temp,
        .dynatemp_range = (float)o->dynatemp_range,
        .dynatemp_exponent = (float)o->dynatemp_exp,
        .penalty_repeat = (float)o->repeat,
        .penalty_freq = (float)o->frequency,
        .penalty_present = (float)o->presence,
        .dry_multiplier = (float)o->dry_multiplier,
        .dry_base = (float)o->dry_base,
        .dry_allowed_length = (u32)o->dry_allowed,
        .bias = bias,
        .n_bias = o->bias.n,
        .mirostat = (u32)o->mirostat,
        .mirostat_tau = (float)o->mirostat_tau,
        .mirostat_eta = (float)o->mirostat_eta,
    };
    memcpy(s->order, usual.order, sizeof s->order);
    for (u32 i = 0; i < o->bias.n; i++)
        LB_TRY(bias_of(o->bias.item[i], &bias[i], err));
    LB_TRY(window_of("repeat-last-n", o->repeat_last_n, n_ctx, &s->penalty_last_n, err));
    LB_TRY(window_of("dry-penalty-last-n", o->dry_last_n, n_ctx, &s->dry_last_n, err));
    lb_status st = o->samplers ? lb_sample_order_parse(lb_str_c(o->samplers), s, err) : LB_OK;
    if (st != LB_OK)
        lb_err_context(err, "--samplers");
    return st;
}

lb_status lb_sampling_check(const lb_sampling_opts *o, lb_err *err) {
    lb_arena a = {0};
    lb_sample_opts s;
    u64 seed;
    lb_status st = steps_of(o, 1, &a, &s, err);
    lb_arena_deinit(&a);
    if (st == LB_OK)
        st = seed_of(o->seed, &seed, err);
    if (st == LB_OK && o->grammar && o->schema)
        st = lb_fail(err, LB_E_USAGE, "--grammar and --json-schema: one of them");
    if (st == LB_OK && o->mirostat == 1)
        st = lb_fail(err, LB_E_USAGE, "--mirostat: 1 is not known: 0 or 2");
    for (u32 i = 0; i < o->stops.n && st == LB_OK; i++)
        if (!*o->stops.item[i])
            st = lb_fail(err, LB_E_USAGE, "--stop: an empty text would stop everything");
    return st;
}

/* ---- what needs the tokenizer ---- */

static lb_status encode_plain(void *data, lb_str text, u32 *tokens, u32 max, u32 *n, lb_err *err) {
    lb_buf ids = {0};
    lb_status st = lb_encode_run(data, text, LB_ENCODE_PLAIN, &ids, err);
    *n = (u32)LB_MIN(ids.len / sizeof(u32), (size_t)max);
    if (*n)
        memcpy(tokens, ids.ptr, *n * sizeof *tokens);
    lb_buf_deinit(&ids);
    return st;
}

static lb_status find_breakers(lb_arena *a, const lb_infer *x, const lb_sampling_opts *o,
                               lb_sample_opts *s, lb_err *err) {
    static const char *const usual[] = {"\n", ":", "\"", "*"};
    const u32 n_vocab = lb_model_n_vocab(lb_loaded_model(x->loaded));
    const bool own = o->breakers.n > 0;
    u32 n = own ? o->breakers.n : LB_LEN(usual);
    lb_encode_work *w = NULL;
    lb_arena scratch = {0};
    lb_str *pieces = NULL, *texts = lb_arena_new(a, lb_str, (u64)n);
    lb_dry_breaker *made = NULL;
    if (!texts)
        return lb_fail(err, LB_E_NOMEM, "out of memory for options");
    for (u32 i = 0; i < n; i++)
        texts[i] = lb_str_c(own ? o->breakers.item[i] : usual[i]);
    if (n == 1 && lb_str_eq_c(texts[0], "none"))
        n = 0;
    lb_status st = lb_token_pieces(x->encoder, n_vocab, &scratch, &pieces, err);
    if (st == LB_OK)
        st = lb_encode_work_new(&w, x->encoder, err);
    if (st == LB_OK)
        st = lb_dry_breakers_make(&(lb_dry_vocab){pieces, n_vocab, encode_plain, w}, texts, n, a,
                                  &made, &s->n_breakers, err);
    s->breakers = made;
    lb_encode_work_free(&w);
    lb_arena_deinit(&scratch);
    return st;
}

/* A text that stops, or a special token, which is no text: it stops as a token. */
static lb_status find_stops(lb_sampling *s, const lb_infer *x, const lb_sampling_opts *o,
                            lb_err *err) {
    s->stops = lb_arena_new(&s->arena, lb_str, (u64)o->stops.n + 1);
    s->stop_ids = lb_arena_new(&s->arena, u32, (u64)o->stops.n + 1);
    if (!s->stops || !s->stop_ids)
        return lb_fail(err, LB_E_NOMEM, "out of memory for options");
    for (u32 i = 0; i < o->stops.n; i++) {
        lb_str text = s->stops[s->n_stops++] = lb_str_c(o->stops.item[i]);
        u32 id = lb_encoder_find(x->encoder, text);
        if (id != LB_NO_ID && lb_encoder_token(x->encoder, id, NULL) == LB_TOKEN_CONTROL)
            s->stop_ids[s->n_stop_ids++] = id;
    }
    return LB_OK;
}

static lb_status grammar_of_schema(const char *file, lb_str text, lb_buf *out, lb_err *err) {
    lb_arena a = {0};
    lb_json *schema;
    lb_status st = lb_json_parse(text, file, &a, &schema, err);
    if (st != LB_OK)
        goto done;
    st = lb_json_schema_grammar(schema, out, err);
    if (st != LB_OK)
        lb_err_context(err, "%s", file);
done:
    lb_arena_deinit(&a);
    return st;
}

static lb_status open_grammar(lb_sampling *s, const lb_infer *x, const lb_sampling_opts *o,
                              lb_err *err) {
    const char *file = o->grammar ? o->grammar : o->schema;
    lb_arena a = {0};
    lb_buf made = {0};
    lb_str text = LB_STR_NONE;
    lb_status st = lb_os_read_file(file, GRAMMAR_BYTES_MAX, &a, &text, err);
    if (st == LB_OK && o->schema) {
        st = grammar_of_schema(file, text, &made, err);
        text = lb_buf_str(&made);
    }
    if (st == LB_OK)
        st = lb_token_trie_of(&s->trie, x->encoder, lb_model_n_vocab(lb_loaded_model(x->loaded)),
                              err);
    if (st == LB_OK)
        st = lb_constraint_new(&s->constraint, x->encoder, s->trie, text, file, err);
    lb_buf_deinit(&made);
    lb_arena_deinit(&a);
    return st;
}

lb_status lb_sampling_open(lb_sampling *s, const lb_infer *x, const lb_sampling_opts *o, u32 n_ctx,
                           lb_err *err) {
    lb_sample_opts steps;
    LB_TRY(steps_of(o, n_ctx, &s->arena, &steps, err));
    LB_TRY(seed_of(o->seed, &s->seed, err));
    steps.seed = s->seed;
    if (o->dry_multiplier != 0)
        LB_TRY(find_breakers(&s->arena, x, o, &steps, err));
    LB_TRY(find_stops(s, x, o, err));
    if (o->grammar || o->schema)
        LB_TRY(open_grammar(s, x, o, err));
    return lb_sampler_new(&s->sampler, lb_model_n_vocab(lb_loaded_model(x->loaded)), &steps,
                          &x->kernels, err);
}

void lb_sampling_close(lb_sampling *s) {
    lb_sampler_free(&s->sampler);
    lb_constraint_free(&s->constraint);
    lb_token_trie_free(&s->trie);
    lb_arena_deinit(&s->arena);
    *s = (lb_sampling){0};
}
