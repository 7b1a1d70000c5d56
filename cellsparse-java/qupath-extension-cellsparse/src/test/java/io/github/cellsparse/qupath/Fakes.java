package io.github.cellsparse.qupath;

import io.github.cellsparse.qupath.work.Drawing;
import io.github.cellsparse.qupath.work.DrawnSlide;
import java.awt.Shape;
import java.awt.image.BufferedImage;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import qupath.lib.geom.Point2;
import qupath.lib.images.ImageData;
import qupath.lib.images.servers.ImageServer;
import qupath.lib.images.servers.ImageServerMetadata;
import qupath.lib.images.servers.PixelCalibration;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.classes.PathClass;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.objects.hierarchy.events.PathObjectSelectionModel;
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep;
import qupath.lib.plugins.workflow.Workflow;
import qupath.lib.plugins.workflow.WorkflowStep;
import qupath.lib.projects.Project;
import qupath.lib.projects.ProjectImageEntry;
import qupath.lib.roi.interfaces.ROI;

/** QuPath's images, objects and projects, as far as the extension uses them. */
final class Fakes {
    private Fakes() {}

    /** An annotation of a class, or of none. */
    static PathObject annotation(Shape shape, String pathClass) {
        return annotation(new Region(shape, false, 0), pathClass);
    }

    static PathObject annotation(ROI roi, String pathClass) {
        return PathObjects.createAnnotationObject(roi, pathClass == null ? null : PathClass.fromString(pathClass));
    }

    record Region(Shape shape, boolean line, int z) implements ROI {
        @Override
        public int getZ() {
            return z;
        }

        @Override
        public int getT() {
            return 0;
        }

        @Override
        public boolean isArea() {
            return !line;
        }

        @Override
        public boolean isLine() {
            return line;
        }

        @Override
        public boolean isPoint() {
            return false;
        }

        @Override
        public List<Point2> getAllPoints() {
            return List.of();
        }

        @Override
        public Shape getShape() {
            return shape;
        }
    }

    /** Objects in a list. */
    static final class Objects extends PathObjectHierarchy {
        final List<PathObject> all = new ArrayList<>();
        final Set<PathObject> selected = new LinkedHashSet<>();

        @Override
        public Collection<PathObject> getAnnotationObjects() {
            return all.stream().filter(PathObject::isAnnotation).toList();
        }

        @Override
        public Collection<PathObject> getDetectionObjects() {
            return all.stream().filter(PathObject::isDetection).toList();
        }

        @Override
        public PathObjectSelectionModel getSelectionModel() {
            return new PathObjectSelectionModel() {
                @Override
                public Set<PathObject> getSelectedObjects() {
                    return selected;
                }
            };
        }

        @Override
        public boolean addObjects(Collection<? extends PathObject> objects) {
            return all.addAll(objects);
        }

        @Override
        public void removeObjects(Collection<? extends PathObject> objects, boolean keepChildren) {
            all.removeAll(objects);
        }
    }

    /** A drawn slide with objects and a history. */
    static final class Data extends ImageData<BufferedImage> {
        final Objects objects = new Objects();
        final List<DefaultScriptableWorkflowStep> history = new ArrayList<>();
        private final DrawnSlide slide;
        boolean closed;
        int saves;
        /** The image as its project reads it, if that is another than this one. */
        Data reopened;
        /** What opening its pixels ends with, if anything. */
        RuntimeException unreadable;

        Data(DrawnSlide slide) {
            this.slide = slide;
        }

        /** Draws the first discs of the slide as cells with background around them. */
        Data annotate(int count) {
            for (Drawing drawing : slide.drawings(count)) {
                objects.all.add(annotation(drawing.shape(), drawing.isForeground() ? "Foreground" : "Background"));
            }
            return this;
        }

        @Override
        public ImageServer<BufferedImage> getServer() {
            if (unreadable != null) {
                throw unreadable;
            }
            return new ImageServer<>() {
                @Override
                public String getPath() {
                    return "drawn";
                }

                @Override
                public int getWidth() {
                    return slide.width();
                }

                @Override
                public int getHeight() {
                    return slide.height();
                }

                @Override
                public int nChannels() {
                    return slide.channels();
                }

                @Override
                public boolean isRGB() {
                    return slide.isRgb();
                }

                @Override
                public PixelCalibration getPixelCalibration() {
                    return new PixelCalibration() {
                        @Override
                        public boolean hasPixelSizeMicrons() {
                            return true;
                        }

                        @Override
                        public double getAveragedPixelSizeMicrons() {
                            return 0.5;
                        }
                    };
                }

                @Override
                public ImageServerMetadata getMetadata() {
                    return new ImageServerMetadata() {
                        @Override
                        public String getName() {
                            return "drawn";
                        }
                    };
                }

                @Override
                public BufferedImage readRegion(double downsample, int x, int y, int width, int height, int z, int t) {
                    return slide.read(downsample, x, y, width, height);
                }

                @Override
                public void close() {
                    closed = true;
                }
            };
        }

        @Override
        public PathObjectHierarchy getHierarchy() {
            return objects;
        }

        @Override
        public Workflow getHistoryWorkflow() {
            return new Workflow() {
                @Override
                public void addStep(WorkflowStep step) {
                    history.add((DefaultScriptableWorkflowStep) step);
                }
            };
        }
    }

    /** A project of some images in a folder. */
    record Images(Path folder, List<Data> data) implements Project<BufferedImage> {
        @Override
        public Path getPath() {
            return folder.resolve("project.qpproj");
        }

        @Override
        public List<ProjectImageEntry<BufferedImage>> getImageList() {
            List<ProjectImageEntry<BufferedImage>> entries = new ArrayList<>();
            data.forEach(one -> entries.add(new Entry(one, String.valueOf(data.indexOf(one)))));
            return entries;
        }

        @Override
        public ProjectImageEntry<BufferedImage> getEntry(ImageData<BufferedImage> imageData) {
            return data.stream().filter(one -> one == imageData || one.reopened == imageData).findFirst()
                    .map(one -> new Entry(one, String.valueOf(data.indexOf(one)))).orElse(null);
        }
    }

    private record Entry(Data data, String id) implements ProjectImageEntry<BufferedImage> {
        @Override
        public String getID() {
            return id;
        }

        @Override
        public String getImageName() {
            return "image " + id;
        }

        @Override
        public boolean hasImageData() {
            return true;
        }

        @Override
        public PathObjectHierarchy readHierarchy() {
            return data.getHierarchy();
        }

        @Override
        public ImageData<BufferedImage> readImageData() {
            return data.reopened == null ? data : data.reopened;
        }

        @Override
        public void saveImageData(ImageData<BufferedImage> imageData) {
            ((Data) imageData).saves++;
        }
    }
}
