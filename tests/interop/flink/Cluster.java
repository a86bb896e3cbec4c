import java.lang.reflect.Field;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;
import org.apache.flink.api.dag.Pipeline;
import org.apache.flink.client.deployment.ClusterClientJobClientAdapter;
import org.apache.flink.client.deployment.executors.PipelineExecutorUtils;
import org.apache.flink.client.program.MiniClusterClient;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.DeploymentOptions;
import org.apache.flink.configuration.JobManagerOptions;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.RestOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.PipelineExecutor;
import org.apache.flink.core.execution.PipelineExecutorFactory;
import org.apache.flink.core.execution.PipelineExecutorServiceLoader;
import org.apache.flink.runtime.jobgraph.JobGraph;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.paimon.codegen.CodeGenUtils;
import org.apache.paimon.shade.guava30.com.google.common.cache.Cache;

/** The one cluster of this process, and the executor that hands every job to it. */
final class Cluster implements PipelineExecutorServiceLoader, PipelineExecutorFactory, PipelineExecutor {

    private static final ClassLoader CLASSES = Cluster.class.getClassLoader();
    private static final int SLOTS = 8;

    private final MiniClusterClient client;

    Cluster() throws Exception {
        Configuration configuration = new Configuration();
        configuration.set(RestOptions.ADDRESS, "localhost");
        configuration.set(RestOptions.BIND_ADDRESS, "localhost");
        configuration.set(RestOptions.BIND_PORT, "0");
        configuration.set(JobManagerOptions.BIND_HOST, "localhost");
        configuration.set(TaskManagerOptions.BIND_HOST, "localhost");
        configuration.set(TaskManagerOptions.MANAGED_MEMORY_SIZE, MemorySize.ofMebiBytes(128));
        configuration.set(TaskManagerOptions.NETWORK_MEMORY_MIN, MemorySize.ofMebiBytes(64));
        configuration.set(TaskManagerOptions.NETWORK_MEMORY_MAX, MemorySize.ofMebiBytes(64));
        configuration.setString("jobstore.max-capacity", "4");
        configuration.setString("restart-strategy.type", "none");
        MiniCluster cluster = new MiniCluster(new MiniClusterConfiguration.Builder()
                .setConfiguration(configuration)
                .setNumTaskManagers(1)
                .setNumSlotsPerTaskManager(SLOTS)
                .build());
        cluster.start();
        client = new MiniClusterClient(configuration, cluster);
        Environment.install(this);
    }

    StreamExecutionEnvironment environment(Configuration configuration) {
        return new Environment(this, configuration);
    }

    @Override
    public CompletableFuture<JobClient> execute(Pipeline pipeline, Configuration configuration, ClassLoader classes)
            throws Exception {
        JobGraph job = PipelineExecutorUtils.getJobGraph(pipeline, configuration, CLASSES);
        return client.submitJob(job).thenApply(id -> new ClusterClientJobClientAdapter<>(() -> client, id, CLASSES));
    }

    @Override
    public PipelineExecutorFactory getExecutorFactory(Configuration configuration) {
        return this;
    }

    @Override
    public Stream<String> getExecutorNames() {
        return Stream.of(getName());
    }

    @Override
    public String getName() {
        return "shared-mini-cluster";
    }

    @Override
    public boolean isCompatibleWith(Configuration configuration) {
        return true;
    }

    @Override
    public PipelineExecutor getExecutor(Configuration configuration) {
        return this;
    }

    /**
     * Paimon 1.3.1 caches generated record comparators without their sort order, so that a table with a descending
     * sequence field and one with an ascending one, of equal column types, get each other's (apache/paimon#7222).
     */
    static void forgetGeneratedComparators() throws ReflectiveOperationException {
        Field cache = CodeGenUtils.class.getDeclaredField("COMPILED_CLASS_CACHE");
        cache.setAccessible(true);
        ((Cache<?, ?>) cache.get(null)).invalidateAll();
    }

    /** Also what getExecutionEnvironment() gives inside Paimon's procedures. */
    private static final class Environment extends StreamExecutionEnvironment {

        Environment(Cluster cluster, Configuration configuration) {
            super(cluster, configuration, CLASSES);
            this.configuration.set(DeploymentOptions.TARGET, cluster.getName());
        }

        static void install(Cluster cluster) {
            initializeContextEnvironment(configuration -> new Environment(cluster, configuration));
        }
    }
}
