/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_generate.c: `lbrx generate MODEL -p TEXT`: what a model goes on with. */
#include "base/interrupt.h"
#include "base/os.h"
#include "cli/generate.h"
#include "cli/text.h"
#include "cli/wrap.h"
#include "ops/saved.h"
#include <stdio.h>

static const lb_opt rows[] = {
    {.name = "prompt",
     .short_name = 'p',
     .kind = LB_OPT_STR,
     .arg = "TEXT",
     .help = "the text to go on from",
     .off = offsetof(lb_generate_cmd, prompt)},
    {.name = "file",
     .short_name = 'f',
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "the same from a file; - is standard input",
     .off = offsetof(lb_generate_cmd, file)},
    {.name = "jsonl",
     .kind = LB_OPT_FLAG,
     .help =
         "the file has a prompt a line: a JSON string, or {\"text\": ..., \"n\": ..., \"seed\": "
         "...}; an answer a line comes out, as --json has it, in the same order",
     .off = offsetof(lb_generate_cmd, jsonl)},
    {.name = "parallel",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "4",
     .min = 1,
     .max = 256,
     .help = "with --jsonl: answers that are made at a time",
     .off = offsetof(lb_generate_cmd, parallel)},
    {.name = "n",
     .short_name = 'n',
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "256",
     .max = 1u << 26,
     .help = "tokens at most",
     .off = offsetof(lb_generate_cmd, n)},
    {.name = "context-shift",
     .kind = LB_OPT_FLAG,
     .help = "a full context is no end: half of its tokens leave it, and those behind them move up",
     .off = offsetof(lb_generate_cmd, shift)},
    {.name = "keep",
     .kind = LB_OPT_STR,
     .arg = "N",
     .initial = "0",
     .help =
         "tokens of the prompt's beginning that never leave it (beside the one that texts begin "
         "with); -1: all of the prompt",
     .off = offsetof(lb_generate_cmd, keep)},
    {.name = "chat",
     .kind = LB_OPT_FLAG,
     .help = "the text is a user's message: the model's chat template is put around it",
     .off = offsetof(lb_generate_cmd, chat)},
    {.name = "messages",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "answer the conversation in FILE, as template --input reads it: {\"messages\": [...], "
             "...}, or the array; - is standard input",
     .off = offsetof(lb_generate_cmd, messages)},
    {.name = "session",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "what the model has read stays in FILE, at ctrl-C too; if it exists, it is not read "
             "again, and without a text the answer goes on where the session ends",
     .off = offsetof(lb_generate_cmd, session)},
    {.name = "ids",
     .kind = LB_OPT_FLAG,
     .help = "with --json: the token ids as well",
     .off = offsetof(lb_generate_cmd, ids)},
    {.name = "ignore-eos",
     .kind = LB_OPT_FLAG,
     .help =
         "go on behind tokens that end an answer; not with a grammar, whose end is the answer's",
     .off = offsetof(lb_generate_cmd, ignore_eos)},
};

/* Options that do not go together; before a model is opened. */
static lb_status check_opts(lb_generate_cmd *o, lb_err *err) {
    o->n_keep = UINT32_MAX;
    if (strcmp(o->keep, "-1") != 0 &&
        (!lb_str_to_u64(lb_str_c(o->keep), &o->n_keep) || o->n_keep > 1u << 26))
        return lb_fail(err, LB_E_USAGE, "generate: --keep: '%s' is no count of tokens, nor -1",
                       o->keep);
    int n_prompts = (o->prompt != NULL) + (o->file != NULL) + (o->messages != NULL);
    bool goes_on = n_prompts == 0 && o->session && lb_os_exists(o->session);
    if (n_prompts != 1 && !goes_on)
        return lb_fail(err, LB_E_USAGE,
                       "generate: one of -p TEXT, -f FILE and --messages FILE is needed%s",
                       o->session && !n_prompts ? " to begin a session" : "");
    if (goes_on && o->chat)
        return lb_fail(err, LB_E_USAGE, "generate: --chat needs a message: -p TEXT or -f FILE");
    if (o->session && o->jsonl)
        return lb_fail(err, LB_E_USAGE, "generate: --session is of one prompt: not with --jsonl");
    if (o->jsonl && !o->file)
        return lb_fail(err, LB_E_USAGE, "generate: --jsonl needs -f FILE (- is standard input)");
    const char *lost = o->talk.system     ? "system"
                       : o->talk.kwargs   ? "kwargs"
                       : o->talk.template ? "chat-template"
                                          : NULL;
    if (lost && !o->chat && !o->messages)
        return lb_fail(err, LB_E_USAGE, "generate: --%s needs --chat or --messages", lost);
    lb_status st = lb_sampling_check(&o->sampling, err);
    if (st == LB_OK)
        st = lb_drafting_check(&o->drafting, err);
    if (st != LB_OK)
        lb_err_context(err, "generate");
    return st;
}

static lb_status read_stdin(lb_arena *arena, lb_str *out, lb_err *err) {
    lb_buf b = {0};
    char piece[65536];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, stdin)) > 0 && b.len <= LB_PROMPT_BYTES_MAX)
        lb_buf_put(&b, piece, n);
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK && b.len > LB_PROMPT_BYTES_MAX)
        st = lb_fail(err, LB_E_LIMIT, "stdin: a prompt of more than 256 MiB");
    if (st == LB_OK)
        *out = lb_arena_str(arena, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return st;
}

lb_status lb_generate_read(const char *file, lb_arena *arena, lb_str *out, lb_err *err) {
    return strcmp(file, "-") == 0 ? read_stdin(arena, out, err)
                                  : lb_os_read_file(file, LB_PROMPT_BYTES_MAX, arena, out, err);
}

/* The messages: from a file, or the text as a user's. */
static lb_status make_messages(lb_talk *t, const lb_generate_cmd *o, lb_str text, lb_arena *arena,
                               lb_json **out, lb_err *err) {
    lb_str role;
    lb_json *all = lb_json_new_array(arena), *given;
    if (!all)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the prompt");
    *out = all;
    if (o->talk.system)
        LB_TRY(lb_talk_say(all, "system", lb_str_c(o->talk.system), arena, err));
    if (!o->messages)
        return lb_talk_say(all, "user", text, arena, err);
    LB_TRY(lb_talk_parse(t, text, strcmp(o->messages, "-") == 0 ? "stdin" : o->messages, arena,
                         &given, err));
    if (o->talk.system && lb_json_as_str(lb_json_get(given->first, "role"), &role) &&
        lb_str_eq_c(role, "system"))
        return lb_fail(err, LB_E_USAGE,
                       "generate: --system, and the conversation has a system message already");
    for (const lb_json *m = given->first; m; m = m->next)
        if (!lb_json_push(all, lb_json_copy(arena, m)))
            return lb_fail(err, LB_E_NOMEM, "out of memory for the prompt");
    return LB_OK;
}

/* What the model reads of a conversation. */
static lb_status in_template(const lb_infer *x, const lb_generate_cmd *o, lb_str text,
                             lb_arena *arena, lb_buf *out, lb_err *err) {
    lb_talk talk = {0};
    lb_json *messages = NULL;
    bool heard = true;
    lb_str token;
    lb_status st = lb_talk_open(&talk, x->source, &o->talk, err);
    if (st == LB_OK)
        st = make_messages(&talk, o, text, arena, &messages, err);
    if (st == LB_OK)
        st = lb_talk_render(&talk, messages, out, err);
    if (st == LB_OK && o->talk.system)
        st = lb_talk_hears_system(&talk, messages->first, &heard, err);
    if (!heard && st == LB_OK && !o->common.quiet)
        (void)fprintf(stderr, "lbrx: the chat template leaves the system message out\n");
    if (st == LB_OK && !o->common.quiet &&
        lb_talk_unknown_token(x->encoder, lb_buf_str(out), messages, &token))
        (void)fprintf(stderr,
                      "lbrx: the chat template writes %.*s, which is no token of this model\n",
                      LB_FMT(token));
    lb_talk_close(&talk);
    return st;
}

lb_status lb_generate_prompt(lb_infer *x, const lb_generate_cmd *o, lb_str text, lb_arena *arena,
                             lb_buf *ids, lb_err *err) {
    const bool talks = o->chat || o->messages;
    lb_buf chat = {0};
    lb_encode_work *w = NULL;
    lb_status st = LB_OK;
    if (talks) {
        st = in_template(x, o, text, arena, &chat, err);
        text = lb_buf_str(&chat);
    }
    if (st == LB_OK)
        st = lb_encode_work_new(&w, x->encoder, err);
    if (st == LB_OK) /* a template has the special tokens itself */
        st = lb_encode_run(w, text, talks ? 0 : LB_ENCODE_ADD, ids, err);
    lb_encode_work_free(&w);
    lb_buf_deinit(&chat);
    if (st == LB_OK && !ids->len)
        st = lb_fail(err, LB_E_USAGE,
                     "generate: the prompt is empty and the model begins with no "
                     "token of its own");
    return st;
}

/* Where the text goes: to a terminal without controls, which a model must not steer. */
typedef struct text_out {
    bool terminal;
    lb_wrap wrap;
} text_out;

static lb_status make_prompt(lb_infer *x, const lb_generate_cmd *o, const lb_saved *saved,
                             lb_arena *arena, lb_buf *ids, lb_err *err) {
    lb_str text = lb_str_c(o->prompt ? o->prompt : "");
    if (!o->prompt && !o->file && !o->messages) {
        lb_buf_put(ids, saved->ids, saved->file.n_ids * sizeof *saved->ids);
        return lb_buf_status(ids, err);
    }
    if (!o->prompt)
        LB_TRY(lb_generate_read(o->file ? o->file : o->messages, arena, &text, err));
    return lb_generate_prompt(x, o, text, arena, ids, err);
}

static lb_status show(void *user, lb_str piece, lb_err *err) {
    text_out *t = user;
    lb_buf safe = {0};
    if (t->terminal) {
        lb_wrap_put(&t->wrap, piece, &safe);
        piece = lb_buf_str(&safe);
    }
    lb_status st = lb_buf_status(&safe, err);
    if (st == LB_OK)
        st = lb_os_write_all(1, piece, err);
    lb_buf_deinit(&safe);
    return st;
}

static void put_ids(lb_buf *out, const char *key, lb_str ids) {
    lb_buf_printf(out, "\"%s\":[", key);
    for (size_t i = 0; i < ids.len / sizeof(u32); i++)
        lb_buf_printf(out, "%s%u", i ? "," : "", lb_load_u32((const u8 *)ids.ptr + 4 * i));
    lb_buf_put_c(out, "],");
}

static double rate(u64 n, u64 us) {
    return us ? (double)n * 1e6 / (double)us : 0;
}

static void put_timings(lb_buf *out, const lb_generated *g) {
    u64 n = g->ids.len / sizeof(u32);
    lb_buf_printf(out,
                  "\"timings\":{\"prompt_tokens\":%u,\"prompt_seconds\":%.6f,"
                  "\"prompt_tokens_per_second\":%.2f,\"tokens\":%llu,\"seconds\":%.6f,"
                  "\"tokens_per_second\":%.2f",
                  g->n_prompt_computed, (double)g->prompt_us / 1e6,
                  rate(g->n_prompt_computed, g->prompt_us), (unsigned long long)n,
                  (double)g->generate_us / 1e6, rate(n, g->generate_us));
    if (g->n_drafted)
        lb_buf_printf(out, ",\"steps\":%llu,\"drafted\":%llu,\"accepted\":%llu",
                      (unsigned long long)g->n_steps, (unsigned long long)g->n_drafted,
                      (unsigned long long)g->n_accepted);
    lb_buf_put_c(out, "}");
}

void lb_generate_put(lb_buf *out, const lb_generate_cmd *o, lb_str prompt, const lb_generated *g,
                     u64 seed) {
    lb_buf_put_c(out, "{");
    if (o->ids) {
        put_ids(out, "prompt_ids", prompt);
        put_ids(out, "ids", lb_buf_str(&g->ids));
    }
    lb_buf_put_c(out, "\"text\":");
    lb_json_write_str(out, lb_buf_str(&g->text), false);
    lb_buf_printf(out, ",\"finish_reason\":\"%s\",", g->stopped ? "stop" : "length");
    put_timings(out, g);
    lb_buf_printf(out, ",\"seed\":%llu}\n", (unsigned long long)seed);
}

u64 lb_generate_room(const lb_infer *x, const lb_generate_cmd *o, u64 n_prompt, u64 n) {
    u64 trained = lb_model_n_ctx_train(lb_loaded_model(x->loaded)), room = n_prompt + n;
    if (o->infer.n_ctx)
        return o->infer.n_ctx;
    if (n >= LB_CTX_USUAL)
        room = LB_MAX(n_prompt, LB_MIN(room, trained ? trained : LB_CTX_USUAL));
    return room;
}

lb_generate_opts lb_generate_opts_of(const lb_infer *x, const lb_generate_cmd *o,
                                     const lb_sampling *s, u32 n_prompt) {
    u32 first = lb_encoder_adds_bos(x->encoder); /* as llama.cpp counts: beside it */
    return (lb_generate_opts){.n_max = (u32)o->n,
                              .sampler = s->sampler,
                              .encoder = x->encoder,
                              .ignore_end = o->ignore_eos,
                              .constraint = s->constraint,
                              .stops = s->stops,
                              .n_stops = s->n_stops,
                              .stop_ids = s->stop_ids,
                              .n_stop_ids = s->n_stop_ids,
                              .shift = o->shift,
                              .n_keep = (u32)LB_MIN(o->n_keep + first, (u64)n_prompt),
                              .stop = lb_interrupt_stop};
}

/* ---- sessions ---- */

static lb_status open_saved(const lb_infer *x, const lb_generate_cmd *o, lb_saved *saved,
                            lb_err *err) {
    bool exists = false;
    if (o->session)
        LB_TRY(lb_saved_check(o->session, &exists, err));
    if (!exists)
        return LB_OK;
    LB_TRY(lb_saved_open(saved, o->session, x->loaded, err));
    if (saved->file.text_bytes)
        return lb_fail(err, LB_E_USAGE, "%s: a conversation: go on with it by lbrx chat --session",
                       o->session);
    return LB_OK;
}

/* What is of use of it for the prompt. */
static lb_status load_saved(const lb_infer *x, const lb_generate_cmd *o, lb_saved *saved,
                            const lb_buf *prompt, lb_err *err) {
    u32 kept, held = saved->file.n_held;
    if (!saved->ids)
        return LB_OK;
    LB_TRY(lb_saved_load(saved, x->context, (const u32 *)(const void *)prompt->ptr,
                         (u32)(prompt->len / sizeof(u32)), NULL, &kept, err));
    if (kept < held && !o->common.quiet)
        (void)fprintf(stderr, "lbrx: %s: %u of its %u tokens are used: the prompt %s\n", o->session,
                      kept, held,
                      kept ? "goes on otherwise behind them"
                           : "begins otherwise, or the model cannot go back to where it does");
    return LB_OK;
}

/* The sequence as far as it came. */
static lb_status save(const lb_infer *x, const lb_generate_cmd *o, const lb_generated *g,
                      lb_err *err) {
    const u32 *ids = (const u32 *)(const void *)g->sequence.ptr;
    const u32 n = (u32)(g->sequence.len / sizeof(u32));
    if (!o->session || !n)
        return LB_OK;
    (void)lb_context_keep(x->context, 0, ids, n);
    return lb_saved_write(
        &(lb_saving){
            .path = o->session, .loaded = x->loaded, .context = x->context, .ids = ids, .n_ids = n},
        err);
}

static lb_status generate(lb_infer *x, const lb_generate_cmd *o, lb_saved *saved, lb_buf *prompt,
                          lb_cli *cli, lb_err *err) {
    lb_sampling sampling = {0};
    lb_drafting drafting = {0};
    lb_generated g = {0};
    text_out out = {.terminal = lb_os_is_terminal(1)};
    u64 n = prompt->len / sizeof(u32), trained = lb_model_n_ctx_train(lb_loaded_model(x->loaded));
    if (trained && n > trained && !o->common.quiet)
        (void)fprintf(stderr,
                      "lbrx: the prompt has %llu tokens, the model was trained for at most %llu\n",
                      (unsigned long long)n, (unsigned long long)trained);
    lb_status st = lb_infer_context(x, lb_generate_room(x, o, n, o->n), err);
    if (st == LB_OK)
        st = lb_sampling_open(&sampling, x, &o->sampling, x->n_ctx, err);
    if (st == LB_OK)
        st = lb_drafting_open(&drafting, x, cli, &o->common, &o->drafting, err);
    if (st == LB_OK)
        st = load_saved(x, o, saved, prompt, err);
    if (st == LB_OK) {
        lb_generate_opts go = lb_generate_opts_of(x, o, &sampling, (u32)n);
        go.draft = drafting.draft;
        go.text = o->common.json ? NULL : show;
        go.user = &out;
        st = lb_generate(x->context, (const u32 *)(const void *)prompt->ptr, (u32)n, &go, &g, err);
    }
    if (st == LB_OK && o->common.json)
        lb_generate_put(&cli->out, o, lb_buf_str(prompt), &g, sampling.seed);
    else if (st == LB_OK)
        lb_buf_put_c(&cli->out, "\n");
    if (st == LB_OK)
        st = save(x, o, &g, err);
    else if (st == LB_E_INTERRUPTED)
        (void)save(x, o, &g, NULL);
    lb_sampling_close(&sampling);
    lb_drafting_close(&drafting);
    lb_wrap_deinit(&out.wrap);
    lb_generated_deinit(&g);
    return st == LB_OK ? lb_interrupt_check(err) : st;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    lb_generate_cmd o = *(const lb_generate_cmd *)opts;
    lb_infer *x = lb_arena_new(&cli->arena, lb_infer, 1);
    lb_saved saved = {.cur = {.fd = -1}};
    lb_buf ids = {0};
    (void)n_args;
    if (!x)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    LB_TRY(check_opts(&o, err));
    x->any_device = true;
    lb_status st = lb_infer_open(x, cli, &o.common, &o.infer, args[0], err);
    if (st != LB_OK || x->planned) {
        lb_infer_close(x);
        return st;
    }
    st = lb_infer_tokenizer(x, err);
    if (st == LB_OK)
        st = open_saved(x, &o, &saved, err);
    if (st == LB_OK && o.jsonl) {
        st = lb_generate_lines(x, &o, cli, err);
    } else if (st == LB_OK) {
        st = make_prompt(x, &o, &saved, &cli->arena, &ids, err);
        if (st == LB_OK)
            st = generate(x, &o, &saved, &ids, cli, err);
    }
    lb_saved_close(&saved);
    lb_infer_close(x);
    lb_buf_deinit(&ids);
    return st;
}

const lb_command lb_cmd_generate = {
    .name = "generate",
    .summary = "Goes on from a text, or answers a message.",
    .args = "MODEL",
    .examples = {{"go on from a text", "lbrx generate model.gguf -p 'Once upon a time' -n 100"},
                 {"an answer", "lbrx generate model/ --chat -p 'What is the capital of France?'"},
                 {"an answer that a program can read",
                  "lbrx generate model/ --chat -p 'A city, as JSON.' --json-schema city.json"}},
    .details =
        "The text is printed as it comes; ctrl-C ends it. MODEL is of any format; what must be "
        "computed first (a merge, an adapter, an encoding without kernels) goes to a temporary "
        "file once.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_TALK(offsetof(lb_generate_cmd, talk)),
              LB_GROUP_SAMPLING(offsetof(lb_generate_cmd, sampling)),
              LB_GROUP_DRAFTING(offsetof(lb_generate_cmd, drafting)),
              LB_GROUP_INFER(offsetof(lb_generate_cmd, infer)),
              LB_GROUP_GPUS(offsetof(lb_generate_cmd, infer)),
              LB_GROUP_COMMON(offsetof(lb_generate_cmd, common))},
    .size_bytes = sizeof(lb_generate_cmd),
    .run = run,
};
