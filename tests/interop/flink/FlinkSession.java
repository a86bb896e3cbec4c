import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.catalog.ResolvedSchema;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.runtime.typeutils.ExternalTypeInfo;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/** One Paimon catalog: a batch and a streaming table environment over it, and Paimon's core. */
final class FlinkSession {

    private static final String CATALOG = "paimon";
    private static final String CHANGES = "harness_changes";
    private static final Map<String, String> DEFAULTS = Map.of(
            "parallelism.default", "1",
            "table.local-time-zone", "UTC",
            "table.dml-sync", "true",
            // rows reach the sink as the test wrote them
            "table.exec.sink.upsert-materialize", "NONE",
            "restart-strategy.type", "none",
            // never more readers than the cluster has slots
            "paimon.*.*.*.scan.infer-parallelism", "false",
            // a streaming read looks for snapshots at once, not every ten seconds
            "paimon.*.*.*.continuous.discovery-interval", "50 ms");

    private record Environments(StreamExecutionEnvironment streams, StreamTableEnvironment tables) {}

    private final Cluster cluster;
    private final Map<String, String> catalogOptions;
    private final Map<String, String> configuration;
    private final Map<Boolean, Environments> environments = new HashMap<>();
    private final PaimonCore core;

    FlinkSession(Cluster cluster, Map<String, String> catalogOptions, Map<String, String> configuration) {
        this.cluster = cluster;
        this.catalogOptions = catalogOptions;
        this.configuration = configuration;
        this.core = new PaimonCore(catalogOptions);
    }

    PaimonCore core() {
        return core;
    }

    /** Runs one statement to its end, or until it gave {@code limit} rows; returns the columns of its result. */
    Map<String, LogicalType> sql(String statement, boolean streaming, long limit, PaimonCore.RowSink sink)
            throws Exception {
        TableResult result = environments(streaming).tables().executeSql(statement);
        ResolvedSchema schema = result.getResolvedSchema();
        List<LogicalType> types = schema.getColumnDataTypes().stream().map(DataType::getLogicalType).toList();
        try (CloseableIterator<Row> rows = result.collect()) {
            for (long count = 0; count < limit && rows.hasNext(); count++) {
                Row row = rows.next();
                sink.add(null, row.getKind(), CanonicalValues.encode(row, types));
            }
        }
        Map<String, LogicalType> columns = new LinkedHashMap<>();
        schema.getColumns().forEach(column -> columns.put(column.getName(), column.getDataType().getLogicalType()));
        return columns;
    }

    /** Writes [kind, [values]] pairs as one bounded changelog stream: one job, and one commit at its end. */
    void write(String table, JsonNode changes, Map<String, String> options) throws Exception {
        Environments streaming = environments(true);
        StreamTableEnvironment tables = streaming.tables();
        List<Column> columns = tables.from(quote(table)).getResolvedSchema().getColumns();
        columns = columns.stream().filter(Column::isPhysical).toList();
        List<DataType> types = columns.stream().map(column -> column.getDataType().nullable()).toList();
        DataType rowType = DataTypes.ROW(columns.stream()
                .map(column -> DataTypes.FIELD(column.getName(), column.getDataType().nullable()))
                .toArray(DataTypes.Field[]::new));
        List<Row> rows = new ArrayList<>();
        for (JsonNode change : changes) {
            rows.add(CanonicalValues.decode(CanonicalValues.kind(change.get(0).asText()), change.get(1), types));
        }
        ExternalTypeInfo<Row> rowInfo = ExternalTypeInfo.of(rowType);
        DataStream<Row> stream = streaming.streams().fromData(rows, rowInfo).setParallelism(1);
        Schema schema = Schema.newBuilder().fromRowDataType(rowType).build();
        tables.createTemporaryView(CHANGES, tables.fromChangelogStream(stream, schema, ChangelogMode.all()));
        try {
            tables.executeSql("INSERT INTO " + quote(table) + hint(options) + " SELECT * FROM " + CHANGES).await();
        } finally {
            tables.dropTemporaryView(CHANGES);
        }
    }

    private Environments environments(boolean streaming) {
        return environments.computeIfAbsent(streaming, this::open);
    }

    private Environments open(boolean streaming) {
        Map<String, String> settings = new HashMap<>(DEFAULTS);
        settings.putAll(configuration);
        settings.put("execution.runtime-mode", streaming ? "STREAMING" : "BATCH");
        Configuration flink = Configuration.fromMap(settings);
        StreamExecutionEnvironment streams = cluster.environment(flink);
        EnvironmentSettings environment = EnvironmentSettings.newInstance().withConfiguration(flink).build();
        StreamTableEnvironment tables = StreamTableEnvironment.create(streams, environment);
        // other environments and other engines alter the same tables
        Map<String, String> options = new HashMap<>(Map.of("type", "paimon", "cache-enabled", "false"));
        options.putAll(catalogOptions);
        tables.executeSql("CREATE CATALOG " + CATALOG + " WITH (" + pairs(options) + ")");
        tables.useCatalog(CATALOG);
        return new Environments(streams, tables);
    }

    private static String quote(String table) {
        return "`" + table.replaceFirst("\\.", "`.`") + "`";
    }

    private static String hint(Map<String, String> options) {
        return options.isEmpty() ? "" : " /*+ OPTIONS(" + pairs(options) + ") */";
    }

    private static String pairs(Map<String, String> options) {
        return options.entrySet().stream()
                .map(option -> literal(option.getKey()) + "=" + literal(option.getValue()))
                .collect(Collectors.joining(", "));
    }

    private static String literal(String text) {
        return "'" + text.replace("'", "''") + "'";
    }
}
