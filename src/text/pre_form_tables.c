/* SPDX-License-Identifier: Apache-2.0 */
/* pre_form_tables.c: see the header. Source of names, grouping, patterns and flags: llama.cpp's
 * src/llama-vocab.cpp in llama-cpp-python 0.3.36, read branch by branch; where its comment gives
 * the original pattern of the tokenizer.json, that one stands here. Contractions are written
 * (?i:...) as the originals do. */
#include "text/pre_form_tables.h"

#define SHORT_FORMS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SYMBOLS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define SYMBOLS_SLASH " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 SHORT_FORMS "|" WORD "|\\p{N}{1,3}|" SYMBOLS "|" SPACES
#define QWEN2 SHORT_FORMS "|" WORD "|\\p{N}|" SYMBOLS "|" SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(tail)                                                                             \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" tail "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER \
    "*" tail
#define TEKKEN CASED("") "|\\p{N}|" SYMBOLS_SLASH "|" SPACES
#define GPT4O CASED(SHORT_FORMS "?") "|\\p{N}{1,3}|" SYMBOLS_SLASH "|" SPACES
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* U+4E00-9FA5; U+3040-309F, U+30A0-30FF */
#define CJK "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+"
/* U+4E00-9FA5, U+0800-4E00, U+AC00-D7FF */
#define CJK_OLD "[\xe4\xb8\x80-\xe9\xbe\xa5\xe0\xa0\x80-\xe4\xb8\x80\xea\xb0\x80-\xed\x9f\xbf]+"
#define ASCII_PUNCT "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define DEEPSEEK3                                                                               \
    ASCII_PUNCT "[A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|" \
                "\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
#define BLOOM                                                                                      \
    " ?[^(\\s|[.,!?\xe2\x80\xa6\xe3\x80\x82\xef\xbc\x8c\xe3\x80\x81\xe0\xa5\xa4\xdb\x94\xd8\x8c])" \
    "]+"
#define DIGITS_FROM_RIGHT "\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))"
/* The letters of DeepSeek LLM's second pattern, as ranges. */
#define DEEPSEEK_LETTERS                                                                          \
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-"   \
    "\u02af\u0370-\u0373"                                                                         \
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-"   \
    "\u0481\u048a-\u052f"                                                                         \
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-"       \
    "\u1d2b\u1d6b-\u1d77"                                                                         \
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-"                    \
    "\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d"                                                       \
    "\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-" \
    "\u1fec\u1ff2-\u1ff4"                                                                         \
    "\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-"          \
    "\u212d\u212f-\u2134\u2139"                                                                   \
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-"               \
    "\u2cee\u2cf2\u2cf3\ua640-\ua66d"                                                             \
    "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-"       \
    "\ufb17\uff21-\uff3a"                                                                         \
    "\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"     \
    "\U00010cb2"                                                                                  \
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
#define DEEPSEEK_PUNCT "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
#define NOT_HAN(set) "[" set "&&[^\\p{Han}]]"
#define KIMI_UPPER NOT_HAN("\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}")
#define KIMI_LOWER NOT_HAN("\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}")
#define KIMI                                                                                    \
    "[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "*" KIMI_LOWER "+" SHORT_FORMS "?|"         \
    "[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "+" KIMI_LOWER "*" SHORT_FORMS "?|\\p{N}{1,3}|" SYMBOLS \
    "|" SPACES

#define S(pattern) \
    { LB_PRE_SPLIT, pattern }
#define BYTES \
    { LB_PRE_BYTES, NULL }
#define BYTES_GPT2 \
    { LB_PRE_BYTES_GPT2, NULL }
#define DIGITS \
    { LB_PRE_DIGITS, NULL }
#define IGNORE LB_PRE_IGNORE_MERGES
#define CLEAN LB_PRE_CLEAN

/* Order counts where two forms have the same steps: a tokenizer.json whose check hash is unknown
 * gets the name of the first. */
const lb_pre_form lb_pre_forms[] = {
    {"gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum jina-v1-en "
     "jina-v2-code roberta-bpe "
     "exaone4 jais",
     CLEAN,
     {BYTES_GPT2}},
    {"trillion granite-docling", 0, {BYTES_GPT2}},
    {"olmo mpt modern-bert", LB_PRE_NFC | CLEAN, {BYTES_GPT2}},
    {"smollm", 0, {DIGITS, BYTES_GPT2}},
    {"starcoder refact codeshell exaone minerva-7b mellum2", CLEAN, {DIGITS, BYTES_GPT2}},
    {"command-r", LB_PRE_NFC, {DIGITS, BYTES_GPT2}},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     IGNORE | LB_PRE_BOS | CLEAN,
     {S(LLAMA3), BYTES}},
    {"glm4 glm5", IGNORE | CLEAN, {S(LLAMA3), BYTES}},
    {"dbrx smaug-bpe chatglm-bpe", CLEAN, {S(LLAMA3), BYTES}},
    {"qwen2 deepseek-r1-qwen kormo f2llmv2 megrez",
     LB_PRE_NFC | LB_PRE_UNTRIMMED,
     {S(QWEN2), BYTES}},
    {"stablelm2", CLEAN, {S(QWEN2), BYTES}},
    {"hunyuan solar-open grok-2", 0, {S(QWEN2), BYTES}},
    {"qwen35",
     LB_PRE_NFC | LB_PRE_UNTRIMMED,
     {S(SHORT_FORMS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
                    "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES),
      BYTES}},
    {"tekken", IGNORE | LB_PRE_BOS, {S(TEKKEN), BYTES}},
    {"gpt-4o llama4 kanana2 talkie minimax-m2", 0, {S(GPT4O), BYTES}},
    {"granite-embed-multi-97m", IGNORE, {S(GPT4O), BYTES}},
    /* The original's pattern; llama.cpp has code of its own for it, which also groups digits that a
     * letter follows. */
    {"tiny_aya cohere2moe", 0, {S("\\d{1,3}(?=(?:\\d{3})*\\b)"), S(GPT4O), BYTES}},
    {"deepseek-llm",
     0,
     {S("[\r\n]"), S(DEEPSEEK_LETTERS), S(DEEPSEEK_PUNCT), S("\\s+$"), S(CJK_OLD), DIGITS, BYTES}},
    {"deepseek-coder",
     0,
     {S("[\r\n]"), S("\\s?\\p{L}+"), S("\\s?\\p{P}+"), S(CJK_OLD), DIGITS, BYTES}},
    {"deepseek-v3 hunyuan-dense joyai-llm hy_v4",
     0,
     {S("\\p{N}{1,3}"), S(CJK), S(DEEPSEEK3), BYTES}},
    {"spark2_5",
     0,
     {S("\\p{N}{1,3}"), S(CJK),
      S(ASCII_PUNCT "[A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
                    "?[\\p{P}\\p{S}]+|[\r\n]|\\s+(?!\\S)|\\s+"),
      DIGITS, BYTES}},
    {"youtu",
     IGNORE,
     {S("[\uac00-\ud7a3\u3131-\u318e]+|["
        "\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|"
        "[\u3105-\u312f]+|" CJK),
      S(CASED(SHORT_FORMS "?") "|\\p{N}|" SYMBOLS_SLASH "|" SPACES), BYTES}},
    {"falcon",
     CLEAN,
     {{LB_PRE_PUNCT_RUNS, NULL}, BYTES_GPT2, {LB_PRE_DIGIT_RUNS, NULL}, S("[0-9][0-9][0-9]")}},
    {"bloom gpt3-finnish poro-chat", 0, {S(BLOOM), BYTES}},
    {"viking", 0, {S(BLOOM), DIGITS, BYTES}},
    {"jais-2",
     CLEAN,
     {S(SHORT_FORMS "|" WORD "|\\p{N}{1,3}|" SYMBOLS
                    "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|"
                    "\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{"
                    "1,2}(?!\\S)|\\s{1}"),
      BYTES}},
    {"chameleon",
     LB_PRE_BOS,
     {S("<sentinel:[0-9]+>"), S("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"), S("([\\t\\n]|    |  )"),
      DIGITS, S("[\\p{P}!-/:-@\\[-`{-~]"), BYTES_GPT2}},
    {"kimi-k2", 0, {S(KIMI), BYTES}},
    {"superbpe", 0, {S("\\p{N}+"), S("(?=(\\d{3})+(?!\\d))"), BYTES}},
    {"bailingmoe bailingmoe2 llada-moe",
     0,
     {S("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|"
        "\\s+(?!\\S)|\\s+"),
      BYTES}},
    {"seed-coder",
     0,
     {S(SHORT_FORMS "|" WORD "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES), BYTES}},
    {"ufakzeka", 0, {S(WORD "|\\p{N}|" SYMBOLS "|" SPACES), BYTES}},
    {"afmoe",
     0,
     {S(DIGITS_FROM_RIGHT),
      S("[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-"
        "\u2fdf\u0e40-\u0e7f\u0e80-\u0eff"
        "\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"),
      S(ASCII_PUNCT
        "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES),
      BYTES}},
    {"laguna", 0, {S("[^\\n]+|[\\n]+"), S(QWEN2), BYTES}},
    {"exaone-moe",
     CLEAN,
     {S(SHORT_FORMS "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| "
                    "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|"
                    "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"),
      BYTES}},
    {"minicpm5",
     IGNORE,
     {S("\\p{N}{1,3}"), S(SHORT_FORMS "|" WORD "|\\p{N}+|" SYMBOLS "|" SPACES), BYTES}},
    {"default",
     CLEAN,
     {S("[\\p{P}\\$\\+<=>\\^~\\|]+"), S(GPT2), S("\\p{N}+"), S("[0-9][0-9][0-9]"), BYTES}},
    {"gemma4 granite-embed-multi-311m", LB_PRE_RAW | LB_PRE_BOS_ALWAYS, {{LB_PRE_SPACES, NULL}}},
    {"sarvam-moe", LB_PRE_RAW, {{LB_PRE_SPACES, NULL}}},
};
const u32 lb_pre_n_forms = LB_LEN(lb_pre_forms);
