/* Rows against all centroids in float32, for one instruction set. Scores and bound are those of kernels/dense.py. Of few
   columns, STRIP rows lie side by side in the lanes, and best, second best and index stay in registers. */

#define STRIP (4 * LANES)
#define AT_ONCE 4

enum { V(MANY_ROWS) = sizeof(V(vec)) == 64 ? 4 : 2 };

/* The label of a row, which is left open where the bound does not tell it from the second best. */
static inline void V(settle)(Narrow *n, int64_t row, int32_t place, float best, float second, float square) {
    n->labels[row] = place;
    if (!(second < best - (n->slope * sqrtf(square) + n->floor)))
        n->open[__atomic_fetch_add(&n->opened, 1, __ATOMIC_RELAXED)] = (int32_t)row;
}

static inline void V(columns)(const Narrow *n, int64_t from, int rows, float *column) {
    const int dims = n->rows.dims;
    for (int r = 0; r < STRIP; r++) {
        const int64_t row = from + (r < rows ? r : rows - 1);
        for (int d = 0; d < dims; d++) {
            const float x = (float)stored(&n->rows, row, d);
            column[d * STRIP + r] = n->shift ? x - n->shift[d] : x;
        }
    }
}

static inline void V(columns32)(const Narrow *n, int64_t from, float *column) {
    const int dims = n->rows.dims;
    const float *x = (const float *)n->rows.data + from * n->rows.stride;
    for (int d = 0; d < dims; d++) {
        const float shift = n->shift ? n->shift[d] : 0;
        for (int r = 0; r < STRIP; r++) column[d * STRIP + r] = x[r * n->rows.stride + d] - shift;
    }
}

static void V(strip)(Narrow *n, int64_t from, int rows, float *column) {
    float best[STRIP], second[STRIP], square[STRIP];
    int32_t place[STRIP];
    const int dims = n->rows.dims;
    if (rows == STRIP && n->rows.type == F32)
        V(columns32)(n, from, column);
    else
        V(columns)(n, from, rows, column);
    for (int r = 0; r < STRIP; r++) best[r] = second[r] = -INFINITY, place[r] = 0, square[r] = 0;
    for (int d = 0; d < dims; d++)
        for (int r = 0; r < STRIP; r++) square[r] += column[d * STRIP + r] * column[d * STRIP + r];
    for (int k = 0; k < n->clusters; k += AT_ONCE) {
        V(vec) acc[AT_ONCE][4];
        for (int i = 0; i < AT_ONCE; i++)
            for (int v = 0; v < 4; v++) acc[i][v] = SET1(n->bias[k + i]);
        for (int d = 0; d < dims; d++) {
            const V(vec) x0 = LOAD(column + d * STRIP), x1 = LOAD(column + d * STRIP + LANES);
            const V(vec) x2 = LOAD(column + d * STRIP + 2 * LANES), x3 = LOAD(column + d * STRIP + 3 * LANES);
            for (int i = 0; i < AT_ONCE; i++) {
                const V(vec) c = SET1(n->centroids[(size_t)(k + i) * dims + d]);
                acc[i][0] = MUL_ADD(c, x0, acc[i][0]), acc[i][1] = MUL_ADD(c, x1, acc[i][1]);
                acc[i][2] = MUL_ADD(c, x2, acc[i][2]), acc[i][3] = MUL_ADD(c, x3, acc[i][3]);
            }
        }
        for (int v = 0; v < 4; v++)
            for (int i = 0; i < AT_ONCE; i++)
                TAKE_BEST(acc[i][v], k + i, best + v * LANES, second + v * LANES, place + v * LANES);
    }
    for (int r = 0; r < rows; r++) V(settle)(n, from + r, place[r], best[r], second[r], square[r]);
}

/* Many columns, which lie along the lanes: MANY rows and AT_ONCE centroids in registers. */
static void V(few_rows)(Narrow *n, int64_t from, int rows, float *scratch) {
    enum { MANY = V(MANY_ROWS) };
    float best[MANY], second[MANY], square[MANY];
    int32_t place[MANY];
    V(vec) sum[MANY];
    const int width = n->width, bytes = row_bytes(n->rows.type);
    const int64_t after = from + MANY < n->count - MANY ? from + MANY : from;
    const char *next = (const char *)n->rows.data + after * n->rows.stride * bytes;
    for (int r = 0; r < MANY; r++) {
        V(less_f32)(&n->rows, from + (r < rows ? r : rows - 1), n->shift, scratch + r * width);
        best[r] = second[r] = -INFINITY, place[r] = 0, sum[r] = ZERO();
    }
    for (int d = 0; d < width; d += LANES)
        for (int r = 0; r < MANY; r++)
            sum[r] = MUL_ADD(LOAD(scratch + r * width + d), LOAD(scratch + r * width + d), sum[r]);
    for (int r = 0; r < MANY; r++) square[r] = TOTAL(sum[r]);
    for (int k = 0; k < n->clusters; k += AT_ONCE) {
        const float *c = n->centroids + (size_t)k * width;
        V(vec) acc[MANY][AT_ONCE];
        for (int r = 0; r < MANY; r++)
            for (int i = 0; i < AT_ONCE; i++) acc[r][i] = ZERO();
        for (int d = 0; d < width; d += LANES) {
            V(vec) x[MANY];
            for (int r = 0; r < MANY; r++) x[r] = LOAD(scratch + r * width + d);
            for (int r = 0; r < MANY && !k; r++) __builtin_prefetch(next + (r * n->rows.stride + d) * bytes);
            for (int i = 0; i < AT_ONCE; i++) {
                const V(vec) y = LOAD(c + i * width + d);
                for (int r = 0; r < MANY; r++) acc[r][i] = MUL_ADD(x[r], y, acc[r][i]);
            }
        }
        for (int r = 0; r < MANY; r++) {
            float score[AT_ONCE];
            V(totals)(acc[r], score);
            for (int i = 0; i < AT_ONCE; i++) {
                const float s = score[i] + n->bias[k + i];
                if (s > best[r]) second[r] = best[r], best[r] = s, place[r] = k + i;
                else if (s > second[r]) second[r] = s;
            }
        }
    }
    for (int r = 0; r < rows; r++) V(settle)(n, from + r, place[r], best[r], second[r], square[r]);
}

static void V(narrow_part)(void *argument, int part, int parts) {
    Narrow *n = argument;
    float column[STRIP * MOST_NARROW];
    const int step = n->scratch ? V(MANY_ROWS) : STRIP;
    const int64_t share = n->count / (8 * parts) / STRIP * STRIP;
    const int64_t tile = share < STRIP ? STRIP : share < NARROW_TILE ? share : NARROW_TILE;
    float *scratch = n->scratch ? n->scratch + (size_t)part * MOST_TOGETHER * (size_t)n->width : column;
    for (;;) {
        const int64_t at = __atomic_fetch_add(&n->next, 1, __ATOMIC_RELAXED) * tile;
        if (at >= n->count) break;
        const int64_t stop = at + tile < n->count ? at + tile : n->count;
        for (int64_t from = at; from < stop; from += step)
            (n->scratch ? V(few_rows) : V(strip))(n, from, (int)(stop - from < step ? stop - from : step), scratch);
    }
}
#undef STRIP
#undef AT_ONCE
