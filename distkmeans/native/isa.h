/* What differs between instruction sets: vectors of floats, and the integer block. Included once for each of them.

   A block is ROWS records against one panel of PANEL centroids: integer dot products of their heads, plus the
   centroid's constant, compared with the row's threshold. Heads are words of four int8 or two int16; in a panel the
   words of its centroids are interleaved, so that one vector holds the same word of neighbouring centroids. */

#if defined(ISA_AVX512)

typedef __m512 V(vec);
#define LANES 16
#define LOAD(p) _mm512_loadu_ps(p)
#define ZERO() _mm512_setzero_ps()
#define ADD(a, b) _mm512_add_ps(a, b)
#define SUB(a, b) _mm512_sub_ps(a, b)
#define MIN(a, b) _mm512_min_ps(a, b)
#define MAX(a, b) _mm512_max_ps(a, b)
#define MUL_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#define TOTAL(a) _mm512_reduce_add_ps(a)
static inline void V(totals)(const V(vec) *a, float *total) {
    const __m512 low = ADD(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
    const __m512 high = ADD(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
    const __m512d l = _mm512_castps_pd(low), h = _mm512_castps_pd(high);
    const __m512 four = ADD(_mm512_castpd_ps(_mm512_unpacklo_pd(l, h)), _mm512_castpd_ps(_mm512_unpackhi_pd(l, h)));
    const __m256 two = _mm256_add_ps(_mm512_castps512_ps256(four), _mm512_extractf32x8_ps(four, 1));
    _mm_storeu_ps(total, _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1)));
}
#define SET1(x) _mm512_set1_ps(x)
typedef __m512d V(vec_f64);
#define MUL_ADD_F64(a, b, c) _mm512_fmadd_pd(a, b, c)
#define SET1_F64(x) _mm512_set1_pd(x)
#define TAKE_BEST(score, k, best, second, place)                                                                  \
    do {                                                                                                          \
        const __m512 was = LOAD(best);                                                                            \
        const __mmask16 wins = _mm512_cmp_ps_mask(score, was, _CMP_GT_OQ);                                        \
        _mm512_storeu_ps(second, _mm512_max_ps(LOAD(second), _mm512_min_ps(score, was)));                         \
        _mm512_storeu_ps(best, _mm512_max_ps(score, was));                                                        \
        _mm512_mask_storeu_epi32(place, wins, _mm512_set1_epi32(k));                                              \
    } while (0)
#define LOAD_F16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define LOAD_BF16(p) \
    _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))), 16))
#define LOAD_U8(p) _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p))))
#define LOAD_I8(p) _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p))))

/* The row's word comes as a broadcast from memory inside the instruction: a register for it would make the compiler
   spill accumulators. For int8 the panel holds unsigned bytes and the row signed ones, as vpdpbusd wants. */
#define DOT8(acc, panel, word) __asm__("vpdpbusd %1%{1to16%},%2,%0" : "+v"(acc) : "m"(*(word)), "v"(panel))
#define DOT16(acc, panel, word) __asm__("vpdpwssd %1%{1to16%},%2,%0" : "+v"(acc) : "m"(*(word)), "v"(panel))

/* acc: the scores of ROWS rows and a panel. */
#define PRODUCTS(DOT)                                                                                             \
    __m512i acc[ROWS][2];                                                                                         \
    const __m512i low = _mm512_loadu_si512(bias), high = _mm512_loadu_si512(bias + 16);                           \
    _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++) acc[r][0] = low, acc[r][1] = high;                    \
    for (int w = 0; w < words; w++) {                                                                             \
        const __m512i p0 = _mm512_loadu_si512(panel + 32 * w), p1 = _mm512_loadu_si512(panel + 32 * w + 16);      \
        _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++) {                                                 \
            DOT(acc[r][0], p0, rows + r * step + w);                                                              \
            DOT(acc[r][1], p1, rows + r * step + w);                                                              \
        }                                                                                                         \
    }
/* Not inlined: the addresses of ROWS rows want all registers that there are. */
#define ALONE __attribute__((noinline))
#define BLOCK(name, DOT)                                                                                          \
    ALONE static void V(name)(const int32_t *rows, size_t step, const uint32_t *panel, int words,                 \
                              const int32_t *bias, const int32_t *threshold, uint32_t *mask) {                   \
        PRODUCTS(DOT)                                                                                             \
        _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++) {                                                 \
            const __m512i t = _mm512_set1_epi32(threshold[r]);                                                    \
            const uint32_t m0 = _mm512_cmpge_epi32_mask(acc[r][0], t);                                            \
            const uint32_t m1 = _mm512_cmpge_epi32_mask(acc[r][1], t);                                            \
            mask[r] = m0 | m1 << 16;                                                                              \
        }                                                                                                         \
    }                                                                                                             \
    ALONE static void V(name##_best)(const int32_t *rows, size_t step, const uint32_t *panel, int words,          \
                                     const int32_t *bias, const int32_t *total, int level, int32_t first,         \
                                     int32_t *best, int32_t *place, int32_t *score) {                             \
        PRODUCTS(DOT)                                                                                             \
        _Pragma("GCC unroll 12") for (int r = 0; r < ROWS && score; r++) {                                        \
            _mm512_storeu_si512(score + PANEL * r, acc[r][0]), _mm512_storeu_si512(score + PANEL * r + 16, acc[r][1]); \
        }                                                                                                         \
        const __m512i here = _mm512_set1_epi32(first);                                                            \
        const __m128i by = _mm_cvtsi32_si128(level);                                                              \
        _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++) {                                                 \
            const __m512i off = _mm512_set1_epi32(total[r]);                                                      \
            const __m512i s0 = _mm512_sra_epi32(_mm512_sub_epi32(acc[r][0], off), by);                            \
            const __m512i s1 = _mm512_sra_epi32(_mm512_sub_epi32(acc[r][1], off), by);                            \
            __m512i b = _mm512_loadu_si512(best + 16 * r), at = _mm512_loadu_si512(place + 16 * r);               \
            __mmask16 m = _mm512_cmpgt_epi32_mask(s0, b);                                                         \
            b = _mm512_max_epi32(b, s0), at = _mm512_mask_mov_epi32(at, m, here);                                 \
            m = _mm512_cmpgt_epi32_mask(s1, b);                                                                   \
            b = _mm512_max_epi32(b, s1);                                                                          \
            at = _mm512_mask_mov_epi32(at, m, _mm512_add_epi32(here, _mm512_set1_epi32(16)));                     \
            _mm512_storeu_si512(best + 16 * r, b), _mm512_storeu_si512(place + 16 * r, at);                       \
        }                                                                                                         \
    }
BLOCK(block8, DOT8)
BLOCK(block16, DOT16)
#undef BLOCK
#undef ALONE
#undef PRODUCTS

/* As block8, of scores that are known. */
static inline void V(passed)(const int32_t *score, const int32_t *threshold, uint32_t *mask) {
    for (int r = 0; r < ROWS; r++, score += PANEL) {
        const __m512i t = _mm512_set1_epi32(threshold[r]);
        const uint32_t low = _mm512_cmpge_epi32_mask(_mm512_loadu_si512(score), t);
        mask[r] = low | (uint32_t)_mm512_cmpge_epi32_mask(_mm512_loadu_si512(score + 16), t) << 16;
    }
}

/* The rows of a block that have any bit in its mask. */
static inline uint32_t V(hits)(const uint32_t *mask) {
    const __m512i m = _mm512_maskz_loadu_epi32((1 << ROWS) - 1, mask);
    return _mm512_test_epi32_mask(m, m);
}

/* Products of four rows' and four centroids' heads, ``words`` a multiple of 16. */
#define FOUR_OF(name, dot)                                                                                        \
    static inline void V(name)(const int32_t *const *x, const uint32_t *const *c, int words, int32_t *score) {    \
        __m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()}; \
        for (int w = 0; w < words; w += 16)                                                                       \
            for (int i = 0; i < 4; i++) s[i] = dot(s[i], _mm512_loadu_si512(c[i] + w), _mm512_loadu_si512(x[i] + w)); \
        const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(s[0], s[1]), _mm512_unpackhi_epi32(s[0], s[1])); \
        const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(s[2], s[3]), _mm512_unpackhi_epi32(s[2], s[3])); \
        const __m512i d = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));             \
        const __m256i e = _mm256_add_epi32(_mm512_castsi512_si256(d), _mm512_extracti64x4_epi64(d, 1));           \
        _mm_storeu_si128((__m128i *)score, _mm_add_epi32(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1))); \
    }
FOUR_OF(four8, _mm512_dpbusd_epi32)
FOUR_OF(four16, _mm512_dpwssd_epi32)
#undef FOUR_OF
#undef DOT8
#undef DOT16

#else /* AVX2, or whatever the compiler makes of vectors of 4 floats */

#if defined(ISA_AVX2)
typedef __m256 V(vec);
#define LANES 8
#define LOAD(p) _mm256_loadu_ps(p)
#define ZERO() _mm256_setzero_ps()
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MIN(a, b) _mm256_min_ps(a, b)
#define MAX(a, b) _mm256_max_ps(a, b)
#define MUL_ADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#define LOAD_F16(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define LOAD_BF16(p) \
    _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))), 16))
#define LOAD_U8(p) _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define LOAD_I8(p) _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define SET1(x) _mm256_set1_ps(x)
typedef __m256d V(vec_f64);
#define MUL_ADD_F64(a, b, c) _mm256_fmadd_pd(a, b, c)
#define SET1_F64(x) _mm256_set1_pd(x)
static inline float V(total)(__m256 a) {
    float lane[8];
    _mm256_storeu_ps(lane, a);
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}
#else
typedef float V(vec) __attribute__((vector_size(16)));
#define LANES 4
static inline V(vec) V(load)(const float *p) {
    V(vec) v;
    memcpy(&v, p, sizeof v);
    return v;
}
#define LOAD(p) V(load)(p)
#define ZERO() ((V(vec)){0})
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
static inline V(vec) V(least_of)(V(vec) a, V(vec) b) {
    for (int l = 0; l < LANES; l++) a[l] = a[l] < b[l] ? a[l] : b[l];
    return a;
}
#define MIN(a, b) V(least_of)(a, b)
#define MAX(a, b) (-V(least_of)(-(a), -(b)))
#define MUL_ADD(a, b, c) ((a) * (b) + (c))
#define FOUR(convert, p) ((V(vec)){convert((p)[0]), convert((p)[1]), convert((p)[2]), convert((p)[3])})
#define LOAD_F16(p) FOUR(half_to_float, p)
#define LOAD_BF16(p) FOUR(bfloat_to_float, p)
#define LOAD_U8(p) FOUR((float), p)
#define LOAD_I8(p) FOUR((float), p)
#define SET1(x) ((V(vec)){x, x, x, x})
typedef double V(vec_f64) __attribute__((vector_size(16)));
#define MUL_ADD_F64(a, b, c) ((a) * (b) + (c))
#define SET1_F64(x) ((V(vec_f64)){x, x})
static inline float V(total)(V(vec) a) { return (a[0] + a[2]) + (a[1] + a[3]); }
#endif
#define TOTAL(a) V(total)(a)
static inline void V(totals)(const V(vec) *a, float *total) {
    for (int i = 0; i < 4; i++) total[i] = V(total)(a[i]);
}
#define TAKE_BEST(score, k, best, second, place)                                                                  \
    do {                                                                                                          \
        float lane[LANES];                                                                                        \
        memcpy(lane, &(score), sizeof lane);                                                                      \
        for (int l = 0; l < LANES; l++) {                                                                         \
            const float low = lane[l] < (best)[l] ? lane[l] : (best)[l];                                          \
            (second)[l] = low > (second)[l] ? low : (second)[l];                                                  \
            (place)[l] = lane[l] > (best)[l] ? k : (place)[l];                                                    \
            (best)[l] = lane[l] > (best)[l] ? lane[l] : (best)[l];                                                \
        }                                                                                                         \
    } while (0)

/* One row against a panel, in a loop that the compiler turns into the vectors it has. */
static inline void V(dots8)(const int32_t *row, const uint32_t *panel, int words, int32_t *score) {
    for (int w = 0; w < words; w++) {
        const int8_t *x = (const int8_t *)(row + w);
        const uint8_t *c = (const uint8_t *)(panel + PANEL * w);
        for (int k = 0; k < PANEL; k++)
            score[k] += x[0] * c[4 * k] + x[1] * c[4 * k + 1] + x[2] * c[4 * k + 2] + x[3] * c[4 * k + 3];
    }
}
#if defined(ISA_AVX2)
static inline void V(dots16)(const int32_t *row, const uint32_t *panel, int words, int32_t *score) {
    __m256i acc[4];
    for (int v = 0; v < 4; v++) acc[v] = _mm256_loadu_si256((const __m256i *)(score + 8 * v));
    for (int w = 0; w < words; w++) {
        const __m256i x = _mm256_set1_epi32(row[w]);
        for (int v = 0; v < 4; v++) {
            const __m256i c = _mm256_loadu_si256((const __m256i *)(panel + PANEL * w + 8 * v));
            acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(x, c));
        }
    }
    for (int v = 0; v < 4; v++) _mm256_storeu_si256((__m256i *)(score + 8 * v), acc[v]);
}
#else
static inline void V(dots16)(const int32_t *row, const uint32_t *panel, int words, int32_t *score) {
    for (int w = 0; w < words; w++) {
        const int16_t *x = (const int16_t *)(row + w), *c = (const int16_t *)(panel + PANEL * w);
        for (int k = 0; k < PANEL; k++) score[k] += (int32_t)x[0] * c[2 * k] + (int32_t)x[1] * c[2 * k + 1];
    }
}
#endif
#define BLOCK(name, dots)                                                                                         \
    static void V(name)(const int32_t *rows, size_t step, const uint32_t *panel, int words, const int32_t *bias,  \
                        const int32_t *threshold, uint32_t *mask) {                                               \
        for (int r = 0; r < ROWS; r++) {                                                                          \
            int32_t score[PANEL];                                                                                 \
            memcpy(score, bias, sizeof score);                                                                    \
            V(dots)(rows + r * step, panel, words, score);                                                        \
            uint32_t m = 0;                                                                                       \
            for (int k = 0; k < PANEL; k++) m |= (uint32_t)(score[k] >= threshold[r]) << k;                       \
            mask[r] = m;                                                                                          \
        }                                                                                                         \
    }                                                                                                             \
    static void V(name##_best)(const int32_t *rows, size_t step, const uint32_t *panel, int words,                \
                               const int32_t *bias, const int32_t *total, int level, int32_t first,               \
                               int32_t *best, int32_t *place, int32_t *scores) {                                  \
        for (int r = 0; r < ROWS; r++) {                                                                          \
            int32_t score[PANEL];                                                                                 \
            memcpy(score, bias, sizeof score);                                                                    \
            V(dots)(rows + r * step, panel, words, score);                                                        \
            if (scores) memcpy(scores + PANEL * r, score, sizeof score);                                          \
            for (int k = 0; k < PANEL; k++) {                                                                     \
                const int32_t lane = 16 * r + k % 16, s = (score[k] - total[r]) >> level, wins = s > best[lane];  \
                best[lane] = wins ? s : best[lane];                                                               \
                place[lane] = wins ? first + k - k % 16 : place[lane];                                            \
            }                                                                                                     \
        }                                                                                                         \
    }
BLOCK(block8, dots8)
BLOCK(block16, dots16)
#undef BLOCK

static inline void V(passed)(const int32_t *score, const int32_t *threshold, uint32_t *mask) {
    for (int r = 0; r < ROWS; r++, score += PANEL) {
        mask[r] = 0;
        for (int k = 0; k < PANEL; k++) mask[r] |= (uint32_t)(score[k] >= threshold[r]) << k;
    }
}

static inline uint32_t V(hits)(const uint32_t *mask) {
    uint32_t hits = 0;
    for (int r = 0; r < ROWS; r++) hits |= (uint32_t)(mask[r] != 0) << r;
    return hits;
}

/* Products of four rows' and four centroids' heads, in loops that the compiler turns into vectors. */
#define FOUR_OF(name, per_word, row_type, centroid_type)                                                          \
    static inline void V(name)(const int32_t *const *x, const uint32_t *const *c, int words, int32_t *score) {    \
        for (int i = 0; i < 4; i++) {                                                                             \
            const row_type *a = (const row_type *)x[i];                                                           \
            const centroid_type *b = (const centroid_type *)c[i];                                                 \
            int32_t sum = 0;                                                                                      \
            for (int d = 0; d < per_word * words; d++) sum += (int32_t)a[d] * b[d];                               \
            score[i] = sum;                                                                                       \
        }                                                                                                         \
    }
FOUR_OF(four8, 4, int8_t, uint8_t)
FOUR_OF(four16, 2, int16_t, int16_t)
#undef FOUR_OF
#endif
