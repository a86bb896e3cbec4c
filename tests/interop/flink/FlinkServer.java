import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.type.TypeReference;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.types.RowKind;

/**
 * Flink and Paimon behind stdin and stdout.
 *
 * <p>A request is one JSON object on one line: {"command", "session", ...}, where "session" is
 * {"catalog": options, "configuration": options} and names the session too. Its answer is one JSON array a row
 * ([snapshot or null, kind, [values]]) and then one JSON object, which ends it: {"ok": true, ...} or
 * {"ok": false, "error"}. Requests are served one after the other, on the main thread, since the planner keeps
 * thread locals. The process ends with its stdin, whatever it is doing.
 */
public final class FlinkServer {

    private interface Command {
        Map<String, Object> run(JsonNode request) throws Exception;
    }

    private static final int MAX_SESSIONS = 8;
    private static final int BUFFER_BYTES = 1 << 16;
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final TypeReference<Map<String, String>> OPTIONS = new TypeReference<>() {};

    private final OutputStream answers;
    private final Cluster cluster;
    private JsonNode served;
    private final Map<JsonNode, FlinkSession> sessions = new LinkedHashMap<>(16, 0.75f, true) {
        @Override
        protected boolean removeEldestEntry(Map.Entry<JsonNode, FlinkSession> eldest) {
            return size() > MAX_SESSIONS;
        }
    };
    private final Map<String, Command> commands = Map.of(
            "ping", request -> Map.of(),
            "sql", this::sql,
            "write", this::write,
            "write core", this::writeCore,
            "compact core", this::compactCore,
            "hide core", this::hideCore,
            "read", this::read,
            "changelog", this::changelog,
            "snapshots", this::snapshots);

    private FlinkServer(OutputStream answers) throws Exception {
        this.answers = answers;
        this.cluster = new Cluster();
    }

    public static void main(String[] arguments) throws Exception {
        OutputStream answers = new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), BUFFER_BYTES);
        System.setOut(System.err);
        BlockingQueue<String> requests = requests();
        FlinkServer server = new FlinkServer(answers);
        while (true) {
            server.answer(requests.take());
        }
    }

    private static BlockingQueue<String> requests() {
        BlockingQueue<String> requests = new LinkedBlockingQueue<>();
        Thread reader = new Thread(() -> {
            try (var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
                for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                    requests.add(line);
                }
            } catch (IOException error) {
                error.printStackTrace();
            }
            Runtime.getRuntime().halt(0);
        });
        reader.setDaemon(true);
        reader.start();
        return requests;
    }

    private void answer(String line) throws IOException {
        Map<String, Object> answer = new LinkedHashMap<>();
        try {
            JsonNode request = JSON.readTree(line);
            String name = request.get("command").asText();
            if (!commands.containsKey(name)) {
                throw new IllegalArgumentException("unknown command '" + name + "'");
            }
            changeOver(request.get("session"));
            answer.putAll(commands.get(name).run(request));
            answer.put("ok", true);
        } catch (Exception | LinkageError | StackOverflowError error) {
            error.printStackTrace();
            answer.put("ok", false);
            answer.put("error", String.join("\nCaused by: ", causes(error)));
        }
        line(answer);
        answers.flush();
    }

    /** What was generated for one warehouse's tables is not for another's; to generate it anew each time takes long. */
    private void changeOver(JsonNode session) throws ReflectiveOperationException {
        if (!Objects.equals(session, served)) {
            Cluster.forgetGeneratedComparators();
            served = session;
        }
    }

    private static List<String> causes(Throwable error) {
        List<String> causes = new ArrayList<>();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            causes.add(cause.toString());
        }
        return causes;
    }

    private FlinkSession session(JsonNode request) {
        return sessions.computeIfAbsent(request.get("session"), session -> new FlinkSession(
                cluster, options(session.get("catalog")), options(session.get("configuration"))));
    }

    private static Map<String, String> options(JsonNode node) {
        return JSON.convertValue(node, OPTIONS);
    }

    private void row(Long snapshot, RowKind kind, List<Object> values) throws IOException {
        line(Arrays.asList(snapshot, kind.shortString(), values));
    }

    private void line(Object value) throws IOException {
        answers.write(JSON.writeValueAsBytes(value));
        answers.write('\n');
    }

    private Map<String, Object> sql(JsonNode request) throws Exception {
        boolean streaming = request.get("streaming").asBoolean();
        long limit = request.get("limit").asLong();
        return columns(session(request).sql(request.get("sql").asText(), streaming, limit, this::row));
    }

    private Map<String, Object> write(JsonNode request) throws Exception {
        session(request).write(request.get("table").asText(), request.get("rows"), options(request.get("options")));
        return Map.of();
    }

    private Map<String, Object> writeCore(JsonNode request) throws Exception {
        PaimonCore core = session(request).core();
        core.write(request.get("table").asText(), request.get("rows"), options(request.get("options")));
        return Map.of();
    }

    private Map<String, Object> compactCore(JsonNode request) throws Exception {
        PaimonCore core = session(request).core();
        boolean full = request.get("full").asBoolean();
        core.compact(request.get("table").asText(), full, options(request.get("options")));
        return Map.of();
    }

    private Map<String, Object> hideCore(JsonNode request) throws Exception {
        PaimonCore core = session(request).core();
        core.hide(request.get("table").asText(), request.get("positions"), options(request.get("options")));
        return Map.of();
    }

    private Map<String, Object> read(JsonNode request) throws Exception {
        PaimonCore core = session(request).core();
        String table = request.get("table").asText();
        core.read(table, options(request.get("options")), this::row);
        return columns(core.columns(table));
    }

    private Map<String, Object> changelog(JsonNode request) throws Exception {
        PaimonCore core = session(request).core();
        String table = request.get("table").asText();
        long after = request.get("after").asLong();
        core.changelog(table, after, request.get("until").asLong(), options(request.get("options")), this::row);
        return columns(core.columns(table));
    }

    private Map<String, Object> snapshots(JsonNode request) throws Exception {
        return Map.of("snapshots", session(request).core().snapshots(request.get("table").asText()));
    }

    private static Map<String, Object> columns(Map<String, LogicalType> columns) {
        List<List<String>> described = new ArrayList<>();
        columns.forEach((name, type) -> described.add(List.of(name, type.asSummaryString())));
        return Map.of("columns", described);
    }
}
