/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_chat.c: `lbrx chat MODEL`: a conversation with a model. */
#include "base/os.h"
#include "cli/chat_ui.h"
#include "ops/saved.h"
#include <stdio.h>

#define CTX_UNKNOWN 4096u /* where the model does not say what it was trained for */
#define CTX_MOST 8192u    /* unless --ctx asks for more */

typedef struct chat_opts {
    lb_common common;
    lb_infer_opts infer;
    lb_sampling_opts sampling;
    lb_talk_opts talk;
    lb_drafting_opts drafting;
    const char *messages, *session;
    u64 n;
    bool history, timings, shift;
} chat_opts;

static const lb_opt rows[] = {
    {.name = "messages",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "go on with the conversation in FILE, as /save writes it",
     .off = offsetof(chat_opts, messages)},
    {.name = "session",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "go on with the conversation in FILE, as /save FILE.session writes it, if it exists, "
             "and save it there at the end",
     .off = offsetof(chat_opts, session)},
    {.name = "n",
     .short_name = 'n',
     .kind = LB_OPT_INT,
     .arg = "N",
     .max = 1u << 26,
     .help = "tokens of an answer at most; 0: as many as the context has room for",
     .off = offsetof(chat_opts, n)},
    {.name = "context-shift",
     .kind = LB_OPT_FLAG,
     .help = "a full context is no end: the oldest messages are not read any more",
     .off = offsetof(chat_opts, shift)},
    {.name = "history",
     .kind = LB_OPT_FLAG,
     .help = "keep what is typed for other days, in chat_history in the cache folder",
     .off = offsetof(chat_opts, history)},
    {.name = "timings",
     .kind = LB_OPT_FLAG,
     .help = "tell after each answer how fast it came",
     .off = offsetof(chat_opts, timings)},
};

/* The file in the cache folder, which is made; NULL where there is none to be had. */
static const char *history_file(lb_arena *a) {
    const char *own = lb_os_env("LBRX_CACHE"), *cache = lb_os_env("XDG_CACHE_HOME");
    const char *home = lb_os_env("HOME");
    const char *base = own     ? own
                       : cache ? cache
                       : home  ? lb_os_join(a, home, LB_STR(".cache"))
                               : NULL;
    const char *dir = base && !own ? lb_os_join(a, base, LB_STR("lbrx")) : base;
    if (!dir || (!own && lb_os_mkdir(base, true, NULL) != LB_OK) ||
        lb_os_mkdir(dir, true, NULL) != LB_OK)
        return NULL;
    return lb_os_join(a, dir, LB_STR("chat_history"));
}

static bool is_terminal(const lb_common *c) {
    const char *term = lb_os_env("TERM");
    return !c->json && lb_os_is_terminal(0) && lb_os_is_terminal(1) &&
           !(term && strcmp(term, "dumb") == 0);
}

/* With a saved session; --system is the system message from now on. */
static lb_status go_on(lb_session *s, const chat_opts *o, lb_err *err) {
    bool heard;
    LB_TRY(lb_session_load(s, o->session, err));
    return o->talk.system ? lb_session_system(s, lb_str_c(o->talk.system), &heard, err) : LB_OK;
}

static lb_status open_session(lb_session *s, lb_cli *cli, lb_common *common, const chat_opts *o,
                              const char *arg, lb_err *err) {
    bool exists = false;
    s->x.any_device = true;
    LB_TRY(lb_infer_open(&s->x, cli, common, &o->infer, arg, err));
    if (s->x.planned)
        return LB_OK;
    const u32 trained = lb_model_n_ctx_train(lb_loaded_model(s->x.loaded));
    const u32 usual = LB_MIN(trained ? trained : CTX_UNKNOWN, CTX_MOST);
    LB_TRY(lb_talk_open(&s->talk, s->x.source, &o->talk, err));
    LB_TRY(lb_infer_tokenizer(&s->x, err));
    LB_TRY(lb_infer_context(&s->x, o->infer.n_ctx ? o->infer.n_ctx : usual, err));
    LB_TRY(lb_drafting_open(&s->drafting, &s->x, cli, common, &o->drafting, err));
    LB_TRY(lb_session_begin(s, o->talk.system, err));
    if (o->session)
        LB_TRY(lb_saved_check(o->session, &exists, err));
    if (exists)
        return go_on(s, o, err);
    return o->messages ? lb_session_load(s, o->messages, err) : LB_OK;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    chat_opts o = *(const chat_opts *)opts;
    lb_session s = {
        .common = &o.common, .options = o.sampling, .n_max = (u32)o.n, .shifts = o.shift};
    lb_chat_ui u = {.s = &s,
                    .json = o.common.json,
                    .terminal = is_terminal(&o.common),
                    .timings = o.timings,
                    .quiet = o.common.quiet,
                    .model = lb_os_base_name(lb_str_c(args[0]))};
    (void)n_args;
    lb_status st = lb_sampling_check(&o.sampling, err);
    if (st == LB_OK)
        st = lb_drafting_check(&o.drafting, err);
    if (st == LB_OK && o.messages && o.session)
        st = lb_fail(err, LB_E_USAGE, "--messages and --session: which conversation?");
    if (st != LB_OK) {
        lb_err_context(err, "chat");
        return st;
    }
    u.styled = u.terminal && !lb_os_env("NO_COLOR");
    if (o.history && u.terminal && !(u.history = history_file(&cli->arena)))
        return lb_fail(err, LB_E_IO, "chat: --history: there is no cache folder to keep it in");
    st = open_session(&s, cli, &o.common, &o, args[0], err);
    if (st == LB_OK && !s.x.planned) {
        st = lb_chat_run(&u, err);
        lb_status saved = o.session ? lb_session_save_all(&s, o.session, st ? NULL : err) : LB_OK;
        st = st ? st : saved;
    }
    lb_session_end(&s);
    return st;
}

const lb_command lb_cmd_chat = {
    .name = "chat",
    .summary = "A conversation with a model.",
    .args = "MODEL",
    .examples = {{"a conversation", "lbrx chat model.gguf"},
                 {"with a system message", "lbrx chat model/ --system 'Answer in one sentence.'"},
                 {"from a script: a message a line",
                  "printf 'Hello!\\nAnd goodbye?\\n' | lbrx chat model.gguf --temp 0"}},
    .details =
        "On a terminal lines are edited; /help lists the commands, ctrl-C stops an answer, ctrl-D "
        "leaves. Otherwise each line of stdin is a message or a command (a backslash at its end "
        "goes on in the next), answers go to stdout, all else to stderr, and the first failure "
        "is the exit code. With --json each answer is an object on a line of its own. What a "
        "model thinks before its answer (<think>) is shown dim, or not at all, and kept apart.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_TALK(offsetof(chat_opts, talk)),
              LB_GROUP_SAMPLING(offsetof(chat_opts, sampling)),
              LB_GROUP_DRAFTING(offsetof(chat_opts, drafting)),
              LB_GROUP_INFER(offsetof(chat_opts, infer)), LB_GROUP_GPUS(offsetof(chat_opts, infer)),
              LB_GROUP_COMMON(offsetof(chat_opts, common))},
    .size_bytes = sizeof(chat_opts),
    .run = run,
};
